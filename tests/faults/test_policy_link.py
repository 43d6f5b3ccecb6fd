"""The way to the policy fails, on Unix sockets and on TCP: nobody gets in meanwhile, and logins work again within two seconds of
its return."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from decisionlog import DecisionLog, check_counts
from harness import wire
from harness.answers import cat, open_house, password_house, stream
from harness.daemon import Daemon, rss_kib
from harness.policy import Policy, hang
from harness.rawclient import RawClient
from harness.rawssh import Closed, Disconnected
from harness.wait import PATIENCE_S, poll
from proxy import Proxy
from rawpolicy import CONTINUATION, DATA, GOAWAY, HEADERS, PING, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, goaway

BACK_S = 2.0  # a login must have worked so long after the policy's return
SECRET = "wonderland"
SHORT = ("--policy-auth-deadline", "1s", "--policy-deadline", "1s", "--policy-stream-start", "1s")


def login(port: int, password: str = SECRET) -> bool:
    """One try of a client of its own."""
    client = RawClient(port)
    try:
        client.service()
        return client.try_password("alice", password).type == wire.USERAUTH_SUCCESS
    except (Disconnected, Closed):
        return False
    finally:
        client.close()


def try_many(port: int, count: int) -> list[bool]:
    """So many logins at once: half of them with the right password."""
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda p: results.append(login(port, p)), args=(SECRET if n % 2 else "wrong",)) for n in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(results) == count
    return results


def seconds_to_login(port: int, since: float) -> float:
    """Asked again and again, as people do; measured at the end of the try that got in."""
    while not login(port):
        assert time.monotonic() - since < 30, "no login although the policy is back"
    return time.monotonic() - since


class Keystrokes:
    """A session that runs `cat`, and needs no new answer."""

    def __init__(self, port: int) -> None:
        self.client = RawClient(port)
        self.client.service()
        assert self.client.try_password("alice", SECRET).type == wire.USERAUTH_SUCCESS
        self.channel = self.client.execute("cat")
        self.count = 0
        self.type()

    def type(self) -> None:
        self.count += 1
        key = b"key %d\n" % self.count
        self.client.data(self.channel, key)
        message = self.client.expect(wire.CHANNEL_DATA)
        message.u32()
        assert message.string() == key


def keystrokes(port: int) -> Keystrokes | None:
    try:
        return Keystrokes(port)
    except (Disconnected, Closed, AssertionError):
        return None


def start_typing(port: int) -> Keystrokes:
    """Where nothing is wrong. Deadlines are short here, and a machine that is busy may miss one."""
    return poll(lambda: keystrokes(port), "a session while the policy is well")


class Setup:
    """parleyd -> proxy -> policy for decisions; streams go to the policy past the proxy."""

    def __init__(self, kind: str, work: Path, policy: Policy, start: Callable[..., Daemon]) -> None:
        password_house(policy, "alice", SECRET)
        policy.on.SessionRequested = stream("direct")
        policy.on.Channel = cat
        self.policy = policy
        self.proxy = Proxy(f"unix:{work}/proxy.sock" if kind == "unix" else "127.0.0.1:0", policy.target).__enter__()
        self.daemon = start("--stream-target", f"direct={policy.target}", *SHORT, policy=self.proxy.target)
        self.log = DecisionLog(self.daemon)
        self.port = self.daemon.port

    def new_outcomes(self, before: Any) -> dict[str, int]:
        """How decisions ended since `before`."""
        found: dict[str, int] = {}
        for (_, outcome), count in (self.log.total() - before).items():
            found[outcome] = found.get(outcome, 0) + count
        return found


@pytest.fixture(params=["unix", "tcp"])
def setup(request: pytest.FixtureRequest, work: Path, policy: Policy, start_daemon: Callable[..., Daemon]) -> Iterator[Setup]:
    setup = Setup(request.param, work, policy, start_daemon)
    yield setup
    setup.proxy.__exit__()
    check_counts(setup.daemon, setup.log)


Act = Callable[[Proxy], None]
OUTAGES: dict[str, tuple[Act, Act]] = {
    "refuse": (lambda p: p.refuse(), lambda p: p.listen()),
    "hang-then-answer": (lambda p: (p.set(hang=True), p.reset()), lambda p: p.set()),
    "hang-then-restart": (lambda p: (p.set(hang=True), p.reset()), lambda p: (p.set(), p.reset())),
    "held-then-released": (lambda p: p.set(hold=True), lambda p: p.set()),
    "held-then-restart": (lambda p: p.set(hold=True), lambda p: (p.set(), p.reset())),
    "half-open-then-restart": (lambda p: p.set(drop=True), lambda p: (p.set(), p.reset())),
    "garbage": (lambda p: p.set(garbage=True), lambda p: p.set()),
    "garbage-from-the-start": (lambda p: (p.set(garbage=True), p.reset()), lambda p: p.set()),
    "reset-at-once": (lambda p: (p.set(cut_down=0), p.reset()), lambda p: p.set()),
    "cut-in-the-settings": (lambda p: (p.set(cut_down=5), p.reset()), lambda p: p.set()),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_outage(setup: Setup, outage: str) -> None:
    """Nobody gets in while it lasts, each decision is counted and has its reason, the session that was there lives on, and
    logins work again within two seconds."""
    fail, mend = OUTAGES[outage]
    assert poll(lambda: login(setup.port), "a login") and not login(setup.port, "wrong")
    session = start_typing(setup.port)
    before = setup.log.total()
    fail(setup.proxy)
    assert not any(try_many(setup.port, 12)), setup.daemon.log[-4000:]
    session.type()

    def refused() -> bool:
        ends = setup.new_outcomes(before)
        assert not ends.get("absent"), ends
        return ends.get("unavailable", 0) + ends.get("expired", 0) >= 12

    setup.daemon.board.wait(refused, "as many decisions without an answer as clients")
    for line in setup.daemon.events("decision"):
        assert line["outcome"] == "answered" or line["reason"], line
    began = time.monotonic()
    mend(setup.proxy)
    took = seconds_to_login(setup.port, began)
    session.type()
    session.client.close()
    assert took <= BACK_S, f"{took:.2f} s after the policy's return"
    assert not login(setup.port, "wrong")


@pytest.mark.slow
@pytest.mark.parametrize(("setup", "outage"), [("unix", "refuse"), ("tcp", "hang-then-restart")], indirect=["setup"])
def test_long_outage(setup: Setup, outage: str) -> None:
    """So long that the pauses between attempts to connect have grown as far as they do."""
    fail, mend = OUTAGES[outage]
    poll(lambda: login(setup.port), "a login")
    fail(setup.proxy)
    end = time.monotonic() + 8
    while time.monotonic() < end:
        assert not login(setup.port)
        time.sleep(0.2)
    began = time.monotonic()
    mend(setup.proxy)
    took = seconds_to_login(setup.port, began)
    assert took <= BACK_S, f"{took:.2f} s after the policy's return"


HALF_OPEN_S = 30.0  # a half-open connection must have been replaced so long after the first question on it


def test_half_open(setup: Setup) -> None:
    """Bytes are acknowledged and lost, for good; the policy is well. Found by the deadlines of what is asked, and replaced: the session
    that was there, and what its stream carries, is none the wiser."""
    assert poll(lambda: login(setup.port), "a login") and not login(setup.port, "wrong")
    session = start_typing(setup.port)
    accepted = setup.proxy.accepted
    setup.proxy.deafen()
    began = time.monotonic()
    assert not login(setup.port)
    took = seconds_to_login(setup.port, began)
    assert took <= HALF_OPEN_S, f"{took:.2f} s on a half-open link"
    assert setup.proxy.accepted == accepted + 1
    assert int(setup.daemon.wait_event("link-replaced")["unanswered"]) >= 2
    session.type()
    session.client.close()
    assert not login(setup.port, "wrong")


def test_half_open_for_streams(work: Path, policy: Policy, start_daemon: Callable[..., Daemon]) -> None:
    """The same on the way of the streams, which is another connection."""
    password_house(policy, "alice", SECRET)
    policy.on.SessionRequested = stream("far")
    policy.on.Channel = cat
    with Proxy(f"unix:{work}/proxy.sock", policy.target) as proxy:
        daemon = start_daemon("--stream-target", f"far=unix:{work}/proxy.sock", *SHORT)
        start_typing(daemon.port).client.close()
        proxy.deafen()
        began, tries = time.monotonic(), 0
        while True:
            try:
                Keystrokes(daemon.port).client.close()
                break
            except (Disconnected, Closed, AssertionError):
                tries += 1
                assert time.monotonic() - began <= HALF_OPEN_S, "no session on a half-open link"
        assert tries >= 2 and proxy.accepted == 2


def test_a_policy_that_hangs_is_not_dialled_again_and_again(setup: Setup) -> None:
    """Its connection works, and nothing is answered: a new one will not help, so there are few."""
    setup.policy.on.ValidatePassword = hang
    accepted = setup.proxy.accepted
    began = time.monotonic()
    for _ in range(4):
        assert not any(try_many(setup.port, 10))
    assert setup.proxy.accepted - accepted <= (time.monotonic() - began) / 5 + 1


def test_trickle(setup: Setup) -> None:
    """Byte by byte is slow, and no fault."""
    setup.proxy.set(trickle=True)
    setup.proxy.reset()
    began = time.monotonic()
    seconds_to_login(setup.port, began)
    assert not login(setup.port, "wrong")
    start_typing(setup.port).client.close()


# ---- reset at byte N


def test_reset_at_every_stage_of_a_login(setup: Setup) -> None:
    """N goes over the bytes of a login's connection to the policy, in both directions. Whoever is in has had every answer."""
    proxy = setup.proxy
    proxy.reset()
    seconds_to_login(setup.port, time.monotonic())
    proxy.reset()
    # A link that only shook hands before it was cut is no login.
    poll(lambda: any(each["up"] > 1000 for each in proxy.history), "the bytes of a login")
    sizes = {way: max(each[way] for each in proxy.history) for way in ("up", "down")}
    # The first bytes are the handshake, after which gRPC sits out a growing pause: few points there.
    points = [(way, n) for way in sizes for n in sorted({1, 9, 30, *range(60, sizes[way] + 40, max(1, sizes[way] // 40))})]
    outcomes = {True: 0, False: 0}
    for way, n in points:
        before = proxy.accepted
        proxy.set(**{f"cut_{way}": n})
        proxy.reset()
        proxy.board.wait(lambda: proxy.accepted > before, "a new connection")
        outcomes[login(setup.port)] += 1
        assert not login(setup.port, "wrong"), (way, n)
    proxy.set()
    took = seconds_to_login(setup.port, time.monotonic())
    assert took <= BACK_S, took
    assert outcomes[True] and outcomes[False] > len(points) // 2, (outcomes, sizes)
    for line in setup.daemon.events("login"):  # those that stayed until AuthCompleted
        asked = {each["rpc"] for each in setup.log.events(line["id"], "decision", outcome="answered")}
        # All that this policy has: ConnectionMade and AuthCompleted are absent, which allows.
        assert {"BeginAuth", "ValidatePassword"} <= asked, "\n".join(setup.log.lines(line["id"]))


# ---- HTTP/2 frames that no policy sends

FRAMES: dict[str, bytes] = {
    "goaway-graceful": goaway(0x7FFFFFFF, 0),
    "goaway-nothing-was-served": goaway(0, 0),
    "goaway-too-many-pings": goaway(0x7FFFFFFF, 11, b"too_many_pings"),
    "goaway-protocol-error": goaway(1, 1, b"\0\xffnonsense\n"),
    "goaway-short": frame(GOAWAY, 0, 0, b"\0"),
    "oversize-frame": frame(DATA, 0, 1, b"x" * 100, length=0xFFFFFF) + b"x" * 100_000,
    "data-for-nobody": frame(DATA, 1, 99999, b"\0\0\0\0\0"),
    "data-on-stream-0": frame(DATA, 0, 0, b"x"),
    "headers-for-nobody": frame(HEADERS, 5, 99999, b"\x88"),
    "headers-on-an-even-stream": frame(HEADERS, 5, 2, b"\x88"),
    "broken-header-block": frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff\xff"),
    "push-promise": frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2\x88"),
    "settings-of-7-bytes": frame(SETTINGS, 0, 0, b"x" * 7),
    "settings-window-too-large": frame(SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"),
    "settings-frame-too-small": frame(SETTINGS, 0, 0, b"\0\5\0\0\0\1"),
    "window-overflow": frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 3,
    "window-update-of-0": frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"),
    "reset-for-nobody": frame(RST_STREAM, 0, 99999, b"\0\0\0\1"),
    "ping-of-7-bytes": frame(PING, 0, 0, b"x" * 7),
    "unknown-frame": frame(0xEE, 0xFF, 0, b"x" * 100),
    "continuation-of-nothing": frame(CONTINUATION, 4, 1, b"\x88"),
    "continuations-without-end": frame(HEADERS, 0, 1, b"\x88") + frame(CONTINUATION, 0, 1, b"\0\1x\1y" * 3000) * 30,
    "pings-without-end": frame(PING, 0, 0, b"pingpong") * 20000,
    "settings-without-end": frame(SETTINGS, 0, 0, b"\0\3\0\0\0\x64") * 20000,
    "http-1": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "tls": b"\x15\x03\x03\x00\x02\x02\x28" * 10,
    "nothing-but-zeros": bytes(4096),
}


@pytest.mark.parametrize("moment", ["quiet", "asked"])
def test_frames(setup: Setup, moment: str) -> None:
    """Injected while nothing is asked, and while a password is: no crash, no way in, little memory, and the next login works."""
    original = setup.policy.on.ValidatePassword

    async def check(request: Any, context: Any) -> Any:
        return await hang(request, context) if request.password == "held" else original(request, context)

    setup.policy.on.ValidatePassword = check
    session = start_typing(setup.port)
    memory = rss_kib(setup.daemon.pid)
    slow: list[str] = []
    for name, data in FRAMES.items():
        poll(lambda: login(setup.port), f"a login before {name}")
        client = None
        if moment == "asked":
            client = RawClient(setup.port)
            client.service()
            asked = len(setup.policy.requests("ValidatePassword"))
            client.send(client.password_message("alice", "held"))
            setup.policy.board.wait(lambda: len(setup.policy.requests("ValidatePassword")) > asked, name)
        setup.proxy.inject(data)
        began = time.monotonic()
        took = seconds_to_login(setup.port, began)
        if took > BACK_S:
            slow.append(f"{name} {took:.1f} s")
        if client:
            assert client.expect(wire.USERAUTH_FAILURE, wire.DISCONNECT), name
            client.close()
        assert not login(setup.port, "wrong"), name
        session.type()
    assert not slow, slow
    assert rss_kib(setup.daemon.pid) - memory < 64 * 1024
    session.client.close()


# ---- the policy's process


class PolicyProcess:
    """tests/e2e/harness/policy_process.py: lets everybody in."""

    def __init__(self, target: str) -> None:
        program = Path(sys.modules["harness.policy"].__file__).parent / "policy_process.py"
        self.process = subprocess.Popen([sys.executable, str(program), target], stdout=subprocess.PIPE)
        assert self.process.stdout and self.process.stdout.readline() == b"serving\n"

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def open_login(port: int) -> bool:
    client = RawClient(port)
    try:
        client.service()
        return client.try_none().type == wire.USERAUTH_SUCCESS and client.open() is not None
    except (Disconnected, Closed, AssertionError):
        return False
    finally:
        client.close()


def test_stopped_process(work: Path, start_daemon: Callable[..., Daemon]) -> None:
    """SIGSTOP: refused at the deadline; SIGCONT: at once all right again, and the session in between lost nothing."""
    process = PolicyProcess(f"unix:{work}/policy.sock")
    try:
        daemon = start_daemon(*SHORT)
        poll(lambda: open_login(daemon.port), "a login")
        session = RawClient(daemon.port).login()
        channel = session.execute("cat")
        session.data(channel, b"before")
        session.expect(wire.CHANNEL_DATA)
        process.process.send_signal(signal.SIGSTOP)
        poll(lambda: "T" in Path(f"/proc/{process.process.pid}/stat").read_text().rpartition(")")[2].split()[0], "the policy to stop")
        session.data(channel, b"while it slept")
        began = time.monotonic()
        assert not open_login(daemon.port)
        assert 0.9 < time.monotonic() - began < 20
        began = time.monotonic()
        process.process.send_signal(signal.SIGCONT)
        while not open_login(daemon.port):
            assert time.monotonic() - began < 30
        assert time.monotonic() - began <= BACK_S
        message = session.expect(wire.CHANNEL_DATA)
        message.u32()
        assert message.string() == b"while it slept"
        session.close()
    finally:
        process.kill()


def test_restart_every_second_under_load(work: Path, start_daemon: Callable[..., Daemon]) -> None:
    """Killed and started again and again while logins go on: what is refused is refused, nothing crashes, in the end all works."""
    target = f"unix:{work}/policy.sock"
    process = PolicyProcess(target)
    over = threading.Event()
    counts = {True: 0, False: 0}
    lock = threading.Lock()

    def load(port: int) -> None:
        while not over.is_set():
            result = open_login(port)
            with lock:
                counts[result] += 1

    try:
        daemon = start_daemon(*SHORT)
        log = DecisionLog(daemon)
        poll(lambda: open_login(daemon.port), "a login")
        threads = [threading.Thread(target=load, args=(daemon.port,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            assert not over.wait(1.0)
            process.kill()
            process = PolicyProcess(target)
        began = time.monotonic()
        while not open_login(daemon.port):
            assert time.monotonic() - began < 30
        took = time.monotonic() - began
        over.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert took <= BACK_S, took
        assert counts[True] > 8 and counts[False] > 0, counts
        check_counts(daemon, log)
    finally:
        over.set()
        process.kill()
