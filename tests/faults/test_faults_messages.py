"""Every message number at every stage of a connection: answered, ignored or the end of it, as designed, and never a way in."""

from __future__ import annotations

import random
from typing import Any, Callable, Iterator

import pytest

from faultkit.books import Books
from faultkit.client import Bystander, FaultClient, Reaction
from harness import wire
from harness.answers import PASSWORD, begin, cat, not_required, password_no, serve
from harness.contract import pb
from harness.daemon import Daemon
from harness.policy import Gate, Policy
from harness.rawssh import Disconnected
from harness.wire import string

# What a daemon may ask or report about a client that has not even named itself.
BEFORE_LOGIN = {"ConnectionMade", "ConnectionLost", "DebugMsgReceived"}
WAYS_IN = (wire.USERAUTH_SUCCESS, wire.PK_OK, wire.OPEN_CONFIRMATION, wire.REQUEST_SUCCESS, wire.CHANNEL_SUCCESS)


def payloads(kind: int) -> Iterator[tuple[str, bytes]]:
    """One message in three sizes. All ones: every length inside is far beyond the end, so no structured message is well-formed."""
    noise = random.Random(kind)
    yield "short", bytes([kind])
    yield "long", bytes([kind]) + b"\xff" * 30_000
    yield "random", bytes([kind, 0xFF]) + noise.randbytes(noise.randrange(8, 300))


# ---- what is designed (RFC 4253 section 11 and 12, RFC 4250 section 4.1, design.md section 2)


def any_stage(kind: int) -> str | None:
    """Where the number alone decides; None: the stage does."""
    if kind in (wire.IGNORE, wire.UNIMPLEMENTED, wire.DEBUG):
        return "silent"
    if kind == wire.DISCONNECT or kind == wire.SERVICE_ACCEPT:
        return "end"
    # Key exchange out of turn or malformed; a client that says what only a server says (CVE-2018-10933).
    if kind in (wire.KEXINIT, wire.NEWKEYS, *range(30, 35)) or kind in (51, 52, 53, 60):
        return "end"
    if kind < 50 and kind not in (wire.SERVICE_REQUEST, wire.EXT_INFO) or 128 <= kind < 192 or kind > 193:
        return "unimplemented"
    return None


def in_plaintext(kind: int) -> str:
    if kind in (192, 193):  # an extension that cannot have been negotiated yet
        return "unimplemented"
    if 50 <= kind < 80:
        return "end"
    return any_stage(kind) or "end"


def before_login(kind: int) -> str:
    if decided := any_stage(kind):
        return decided
    if kind in (wire.SERVICE_REQUEST, wire.USERAUTH_REQUEST, 192) or 80 <= kind < 128:
        return "end"
    return "silent" if kind in (wire.EXT_INFO, 193) else "unimplemented"


def while_asking(kind: int) -> str:
    """The same, but a login request waits for its turn."""
    return "silent" if kind == wire.USERAUTH_REQUEST else before_login(kind)


def after_login(kind: int) -> str:
    if kind in (wire.USERAUTH_REQUEST, wire.REQUEST_SUCCESS, wire.REQUEST_FAILURE):
        return "silent"
    if kind in (wire.GLOBAL_REQUEST, *range(wire.CHANNEL_OPEN, wire.CHANNEL_FAILURE + 1)):
        return "end"
    return "unimplemented" if 80 <= kind < 128 else before_login(kind)


def during_rekey(kind: int) -> str:
    """Nothing but key exchange may come (RFC 4253 section 7.1), save the channel data that real clients send."""
    return "end" if kind in (wire.SERVICE_REQUEST, wire.EXT_INFO) or 50 <= kind < 80 else after_login(kind)


# ---- how to get there


class Stages:
    """Clients at a stage; the policy lets in "bystander" and "guest", and holds "held" back."""

    def __init__(self, port: int, policy: Policy) -> None:
        self.port, self.policy = port, policy
        self.held = 0

    def version(self) -> FaultClient:
        return FaultClient(self.port, keys=False)

    def greeted(self) -> FaultClient:
        return self.version().greet()

    def kexinit(self) -> FaultClient:
        client = self.greeted()
        client.send(client._kexinit())
        client._until(wire.KEXINIT)
        return client

    def half_keyed(self) -> FaultClient:
        return self.greeted().half_keyed()

    def keyed(self) -> FaultClient:
        return FaultClient(self.port)

    def service(self) -> FaultClient:
        client = self.keyed()
        client.service()
        return client

    def asking(self) -> FaultClient:
        client = self.service()
        client.send(client.auth_message("held", "none"))
        self.held += 1
        self.policy.wait_for("BeginAuth", self.held, lambda request: request.context.user == "held")
        return client

    def open(self) -> FaultClient:
        client = self.keyed()
        client.login("guest")
        return client

    def session(self) -> FaultClient:
        client = self.open()
        client.execute("cat")
        return client

    def rekey(self) -> FaultClient:
        client = self.open()
        client.expect(wire.GLOBAL_REQUEST)  # hostkeys-00, so that it cannot wait behind the exchange
        client.send(client._kexinit())
        client._until(wire.KEXINIT)
        return client


STAGES = {
    "greeted": in_plaintext,
    "kexinit": in_plaintext,
    "half_keyed": in_plaintext,
    "keyed": before_login,
    "service": before_login,
    "asking": while_asking,
    "open": after_login,
    "session": after_login,
    "rekey": during_rekey,
}


@pytest.fixture
def gate(policy: Policy) -> Gate:
    return policy.gate()


@pytest.fixture
def house(policy: Policy, gate: Gate) -> Policy:
    """Two names are let in; "held" waits at the gate; nobody has a right password."""

    async def begin_auth(request: Any, _context: Any) -> Any:
        if request.context.user == "held":
            await gate.passed()
        return not_required() if request.context.user in ("bystander", "guest") else begin(PASSWORD)

    policy.on.BeginAuth = begin_auth
    policy.on.ValidatePassword = password_no()
    serve(policy, cat)
    return policy


def strangers(policy: Policy) -> list[str]:
    """What was asked about anybody but the bystander."""
    with policy.board.look:
        return [call.name for call in policy.calls if call.request is not None and call.request.context.user != "bystander"]


def warm_up(stages: Stages, enter: Callable[[], FaultClient]) -> None:
    """The first clients at each stage leave what every later one uses again."""
    for _ in range(8):
        stages.session().close()
        enter().close()


def check(reaction: Reaction, wanted: tuple[str, ...], what: str, kind: int) -> None:
    assert reaction.outcome in wanted, f"{what}: {reaction}, wanted {wanted}"
    for answer in reaction.answers:
        assert answer.type not in WAYS_IN, f"{what}: {answer!r}"
    if reaction.end and kind != wire.DISCONNECT:
        assert isinstance(reaction.end, Disconnected) and reaction.end.reason, f"{what}: closed without a word"


@pytest.mark.parametrize("stage", STAGES)
def test_every_message_number(
    house: Policy, daemon: Daemon, bystand: Callable[[Daemon], Bystander], open_books: Callable[[Daemon], Books], stage: str
) -> None:
    stages = Stages(daemon.port, house)
    enter = getattr(stages, stage)
    warm_up(stages, enter)
    books = open_books(daemon)
    bystander = bystand(daemon)
    asked = len(strangers(house))
    client: FaultClient | None = None
    for kind in range(256):
        wanted = (STAGES[stage](kind),)
        if stage == "session" and kind in (wire.CHANNEL_SUCCESS, wire.CHANNEL_FAILURE):
            wanted = ("end", "silent")  # stray ones for channel 0 do no harm
        for size, payload in payloads(kind):
            client = client or enter()
            reaction = client.react(payload)
            check(reaction, wanted, f"{stage}, message {kind}, {size}", kind)
            # What was queued for later would stand before the next one.
            if reaction.end or stage == "asking" and kind == wire.USERAUTH_REQUEST:
                client.close()
                client = None
        bystander.type()
    if client:
        client.close()
    if stage in ("greeted", "kexinit", "half_keyed", "keyed", "service"):
        assert set(strangers(house)[asked:]) <= BEFORE_LOGIN
    assert not house.requests("ValidatePassword")
    books.balance(added=1)


def test_every_message_number_before_the_version_line(
    house: Policy, daemon: Daemon, bystand: Callable[[Daemon], Bystander], open_books: Callable[[Daemon], Books]
) -> None:
    """A packet is no version line: the connection ends at its first bytes."""
    stages = Stages(daemon.port, house)
    warm_up(stages, stages.version)
    books = open_books(daemon)
    bystander = bystand(daemon)
    asked = len(strangers(house))
    for kind in range(256):
        for size, payload in payloads(kind):
            client = stages.version()
            client.send(payload)
            assert client.rest() == [b"SSH-2.0", b"this is an SSH server"], f"message {kind}, {size}"
            client.close()
        bystander.type()
    assert set(strangers(house)[asked:]) <= BEFORE_LOGIN
    books.balance(added=1)


@pytest.mark.parametrize("stage", ["greeted", "kexinit"])
def test_strict_key_exchange_takes_nothing_else(
    house: Policy, daemon: Daemon, bystand: Callable[[Daemon], Bystander], open_books: Callable[[Daemon], Books], stage: str
) -> None:
    """Not even IGNORE, before or behind our KEXINIT (OpenSSH PROTOCOL section 1.10, the Terrapin attack)."""
    stages = Stages(daemon.port, house)
    FaultClient(daemon.port, strict=True).login("guest").close()
    warm_up(stages, stages.greeted)
    books = open_books(daemon)
    bystander = bystand(daemon)
    for kind in range(256):
        for size, payload in payloads(kind):
            client = FaultClient(daemon.port, strict=True, keys=False).greet()
            if stage == "greeted":
                client.send_together(payload, client._kexinit())
            else:
                client.send_together(client._kexinit(), payload)
            end = client.expect_end()
            assert kind == wire.DISCONNECT or isinstance(end, Disconnected), f"message {kind}, {size}: {end!r}"
            client.close()
        bystander.type()
    books.balance(added=1)


def test_nothing_passes_a_login_that_is_not_completed(
    house: Policy, daemon: Daemon, bystand: Callable[[Daemon], Bystander], open_books: Callable[[Daemon], Books], gate: Gate
) -> None:
    """After USERAUTH_SUCCESS everything waits for AuthCompleted; here it says no."""

    async def completed(request: Any, _context: Any) -> Any:
        if request.context.user == "guest":
            await gate.passed()
            return pb.AuthCompletedAnswer(deny=pb.Deny(message="not today"))
        return pb.AuthCompletedAnswer(allow=pb.Allow())

    bystander = bystand(daemon)
    books = open_books(daemon, living=1)
    house.on.AuthCompleted = completed
    clients = []
    for kind in range(256):
        for _, payload in payloads(kind):
            client = Stages(daemon.port, house).open()
            client.send_together(payload, client.open_message(), client.request_message(0, "exec", string("true")))
            clients.append(client)
        bystander.type()
    gate.open()
    for client in clients:
        client.expect_end()
        client.close()
    bystander.type()
    sessions = house.requests("SessionRequested")
    assert [request.context.user for request in sessions] == ["bystander"]
    books.balance(slack_kib=64 * 1024)  # 768 held at once are more than any batch before
