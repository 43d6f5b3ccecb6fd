"""Much data to and from programs, through changes of keys: every byte once and in order, and bounded memory.

PARLEY_TEST_MIB: how much each way (default 128).
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from pathlib import Path

import pytest

from harness.answers import process_house
from harness.clients import OpenSsh
from harness.daemon import Daemon, is_sanitized, rss_kib
from harness.policy import Policy
from harness.wait import PATIENCE_S, poll

MIB = 1 << 20
TOTAL = int(os.environ.get("PARLEY_TEST_MIB", "128"))
BLOCK = os.urandom(8 * MIB + 1)  # no multiple of any buffer
COUNT = max(1, TOTAL // 8)


def digest() -> str:
    whole = hashlib.sha256()
    for _ in range(COUNT):
        whole.update(BLOCK)
    return whole.hexdigest()


def feed(client) -> threading.Thread:
    def work() -> None:
        try:
            for _ in range(COUNT):
                client.stdin.write(BLOCK)
            client.stdin.close()
        except BrokenPipeError:
            pass

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def drain(client) -> str:
    whole = hashlib.sha256()
    while data := client.stdout.read(MIB):
        whole.update(data)
    return whole.hexdigest()


@pytest.fixture
def rekeying(policy: Policy, start_daemon, connect_ssh) -> OpenSsh:
    """New keys every few MiB, and whenever the client wants some, too."""
    process_house(policy)
    return connect_ssh(start_daemon("--rekey-bytes", "8MiB"))


REKEY = ("-o", "RekeyLimit=11M")


def test_down(rekeying: OpenSsh, work: Path) -> None:
    (work / "block").write_bytes(BLOCK)
    client = rekeying.popen(f"for i in $(seq {COUNT}); do cat {work}/block; done; exit 9", options=REKEY)
    assert drain(client) == digest()
    assert client.wait(PATIENCE_S) == 9


def test_up(rekeying: OpenSsh) -> None:
    client = rekeying.popen("sha256sum; exit 9", options=REKEY)
    feed(client)
    assert client.stdout.read().split()[0].decode() == digest()
    assert client.wait(PATIENCE_S) == 9


def test_both_ways_at_once(rekeying: OpenSsh) -> None:
    client = rekeying.popen("cat; exit 9", options=REKEY)
    feed(client)
    assert drain(client) == digest()
    assert client.wait(PATIENCE_S) == 9


def test_small_pieces(policy: Policy, ssh: OpenSsh) -> None:
    """Lines one by one, in both directions."""
    process_house(policy)
    client = ssh.popen("seq 1 200000; while read -r line; do echo \"$line\"; done")
    lines = b"".join(b"%d\n" % n for n in range(1, 200001))
    assert client.stdout.read(len(lines)) == lines
    for n in range(500):
        client.stdin.write(b"%d\n" % n)
        client.stdin.flush()
        assert client.stdout.readline() == b"%d\n" % n
    client.stdin.close()
    assert client.wait(PATIENCE_S) == 0


def written(pid: int) -> int:
    return int(Path(f"/proc/{pid}/io").read_text().split("wchar: ")[1].split()[0])


def settle(figure) -> int:
    """Until it does not change any more."""
    seen = [figure()]

    def still() -> bool:
        seen.append(figure())
        return len(seen) > 10 and len(set(seen[-10:])) == 1

    poll(still, "no more bytes", every=0.05)
    return seen[-1]


def test_a_client_that_does_not_read_stops_the_program(policy: Policy, daemon: Daemon, ssh: OpenSsh) -> None:
    """And nobody keeps for it what it does not read; then it goes on where it was."""
    process_house(policy)
    client = ssh.popen(f"echo $$; exec head -c {256 * MIB} /dev/zero")
    pid = int(client.stdout.readline())
    before = rss_kib(daemon.pid)
    assert settle(lambda: written(pid)) < 40 * MIB
    if not is_sanitized(daemon.pid):
        assert rss_kib(daemon.pid) - before < 6 * 1024
    assert len(client.stdout.read()) == 256 * MIB
    assert client.wait(PATIENCE_S) == 0


def test_a_program_that_does_not_read_stops_the_client(policy: Policy, daemon: Daemon, ssh: OpenSsh) -> None:
    process_house(policy)
    client = ssh.popen("echo $$; read line; kill -STOP $$; exec sha256sum")
    pid = int(client.stdout.readline())
    before = rss_kib(daemon.pid)
    client.stdin.write(b"go\n")
    client.stdin.flush()
    poll(lambda: "T" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0], "a stopped program")
    thread = feed(client)
    settle(lambda: written(client.pid))
    assert thread.is_alive() and written(client.pid) < 40 * MIB
    if not is_sanitized(daemon.pid):
        assert rss_kib(daemon.pid) - before < 6 * 1024
    os.kill(pid, signal.SIGCONT)
    assert client.stdout.read().split()[0].decode() == digest()
    assert client.wait(PATIENCE_S) == 0


def test_a_stopped_channel_stops_no_other(policy: Policy, raw) -> None:
    """One pours and is not read, its neighbour echoes."""
    process_house(policy)
    client = raw().login()
    client.execute("exec cat /dev/zero", channel=0)
    echo = client.execute("exec cat", channel=1)
    client.data(echo, b"still here\n")
    message = client.expect(94, channel=1)
    assert (message.u32(), message.string()) == (1, b"still here\n")
