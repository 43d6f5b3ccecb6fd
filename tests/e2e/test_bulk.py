"""Much data: every byte arrives once and in order, and nobody makes the daemon hold more than a bounded part of it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from pathlib import Path
from typing import Callable, Iterator

import pytest

from harness.answers import cat, open_house
from harness.clients import OpenSsh
from harness.daemon import Daemon, is_sanitized, rss_kib
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.stream import ChannelStream
from harness.wait import PATIENCE_S

TOTAL = 100 * 1000 * 1000
MIB = 1 << 20
BLOCK = os.urandom(MIB)


def blocks(total: int, size: int) -> Iterator[bytes]:
    """Data that would betray a lost, doubled or swapped piece: each one starts with its number."""
    for number in range(total // size):
        yield number.to_bytes(8, "big") + BLOCK[: size - 8]
    if total % size:
        yield BLOCK[: total % size]


def digest(total: int, size: int) -> str:
    whole = hashlib.sha256()
    for block in blocks(total, size):
        whole.update(block)
    return whole.hexdigest()


def source(total: int, size: int) -> Callable[[ChannelStream], object]:
    async def program(channel: ChannelStream) -> None:
        for block in blocks(total, size):
            await channel.write(block)
        await channel.exit(0)

    return program


@pytest.mark.parametrize("size", [65536, 1 << 20, 777])
def test_100_mb_to_the_client(policy: Policy, ssh: OpenSsh, size: int) -> None:
    """In messages of the usual size, in larger ones than a packet, and in many small ones (fewer bytes: Python is slow)."""
    total = TOTAL if size > 1000 else 4 * 1000 * 1000
    open_house(policy, source(total, size))
    process = ssh.popen("download")
    got = hashlib.sha256()
    count = 0
    while data := process.stdout.read(MIB):
        got.update(data)
        count += len(data)
    assert process.wait(PATIENCE_S) == 0, process.stderr.read()
    assert (count, got.hexdigest()) == (total, digest(total, size))


async def sink(channel: ChannelStream) -> None:
    got = hashlib.sha256()
    while data := await channel.read_data():
        got.update(data)
    await channel.write(f"{channel.received} {got.hexdigest()}\n".encode())
    await channel.exit(0)


def feed(pipe: object, data: Iterator[bytes]) -> threading.Thread:
    def work() -> None:
        for block in data:
            pipe.write(block)
        pipe.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_100_mb_to_the_policy(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, sink)
    process = ssh.popen("upload")
    feeder = feed(process.stdin, blocks(TOTAL, MIB))
    out = process.stdout.read().decode()
    feeder.join(PATIENCE_S)
    assert process.wait(PATIENCE_S) == 0, process.stderr.read()
    assert out == f"{TOTAL} {digest(TOTAL, MIB)}\n"


def test_both_ways_at_once(policy: Policy, ssh: OpenSsh) -> None:
    total = 32 * MIB
    open_house(policy, cat)
    process = ssh.popen("echo")
    feeder = feed(process.stdin, blocks(total, MIB))
    got = hashlib.sha256()
    while data := process.stdout.read(MIB):
        got.update(data)
    feeder.join(PATIENCE_S)
    assert process.wait(PATIENCE_S) == 0, process.stderr.read()
    assert got.hexdigest() == digest(total, MIB)


def test_new_keys_on_the_way(policy: Policy, start_daemon: Callable[..., Daemon], connect_ssh: Callable[..., OpenSsh]) -> None:
    """Rekeyed by both sides again and again, in both directions."""
    total = 16 * MIB
    open_house(policy, cat)
    daemon = start_daemon("--rekey-bytes", "1MiB")
    process = connect_ssh(daemon).popen("echo", options=("-o", "RekeyLimit=2M"))
    feeder = feed(process.stdin, blocks(total, MIB))
    got = hashlib.sha256()
    while data := process.stdout.read(MIB):
        got.update(data)
    feeder.join(PATIENCE_S)
    assert process.wait(PATIENCE_S) == 0, process.stderr.read()
    assert got.hexdigest() == digest(total, MIB)


def settled(value: Callable[[], int], still_s: float = 1.5) -> int:
    """The value once it has not grown for a while: for flows that must come to a halt."""
    end = time.monotonic() + PATIENCE_S
    last, since = value(), time.monotonic()
    while time.monotonic() - since < still_s:
        assert time.monotonic() < end, f"still growing: {last}"
        time.sleep(0.05)
        if (now := value()) != last:
            last, since = now, time.monotonic()
    return last


def test_a_client_that_does_not_read_stalls_the_policy(policy: Policy, daemon: Daemon, raw: Callable[..., RawClient]) -> None:
    written = 0

    async def program(channel: ChannelStream) -> None:
        nonlocal written
        for block in blocks(64 * MIB, 65536):
            await channel.write(block)
            written += len(block)
        await channel.exit(0)

    open_house(policy, program)
    client = raw().login()
    number = client.open(window=65536)
    before = rss_kib(daemon.pid)
    assert client.request(number, "exec", b"\0\0\0\1x")
    halted = settled(lambda: written)
    assert halted <= 12 * MIB, "the daemon took more than a bounded amount"
    assert is_sanitized(daemon.pid) or rss_kib(daemon.pid) - before < 16 * 1024
    got = hashlib.sha256()
    count = 0
    while count < 64 * MIB:
        message = client.expect(94)
        message.u32()
        data = message.string()
        got.update(data)
        count += len(data)
        client.send(bytes([93]) + number.to_bytes(4, "big") + len(data).to_bytes(4, "big"))
    assert got.hexdigest() == digest(64 * MIB, 65536)
    client.expect(98)


def test_a_policy_that_does_not_read_stalls_the_client(policy: Policy, daemon: Daemon, raw: Callable[..., RawClient]) -> None:
    gate = policy.gate()

    async def program(channel: ChannelStream) -> None:
        await gate.passed()
        await sink(channel)

    open_house(policy, program)
    client = raw().login()
    number = client.execute()
    before = rss_kib(daemon.pid)
    window, sent = (2 << 20), 0

    def given() -> int:
        """What WINDOW_ADJUST adds, 0 if none comes any more."""
        client.socket.settimeout(2)
        try:
            adjust = client.expect(93)
            adjust.u32()
            return adjust.u32()
        except TimeoutError:
            return 0
        finally:
            client.socket.settimeout(PATIENCE_S)

    while window >= 32768 or (more := given()):
        if window < 32768:
            window += more
            continue
        client.data(number, BLOCK[:32768])
        window, sent = window - 32768, sent + 32768
        assert sent <= 12 * MIB, "the daemon took more than a bounded amount"
    # A sanitizer keeps what is freed for a while.
    assert is_sanitized(daemon.pid) or rss_kib(daemon.pid) - before < 16 * 1024
    gate.open()
    client.eof(number)
    message = client.expect(94)
    message.u32()
    expected = hashlib.sha256(BLOCK[:32768] * (sent // 32768)).hexdigest()
    assert message.string() == f"{sent} {expected}\n".encode()


def test_a_stalled_session_does_not_hold_up_another(policy: Policy, raw: Callable[..., RawClient]) -> None:
    """Two channels of one connection: one client side that reads nothing, one that talks."""

    async def program(channel: ChannelStream) -> None:
        await (cat(channel) if channel.session.exec.command == b"talk" else source(64 * MIB, 65536)(channel))

    open_house(policy, program)
    client = raw().login()
    stalled = client.open(channel=0, window=4096)
    assert client.request(stalled, "exec", b"\0\0\0\4much")
    client.expect(94)
    talking = client.execute("talk", channel=1)
    for i in range(50):
        client.data(talking, b"%d" % i)
        reply = client.expect(94, channel=1)
        assert (reply.u32(), reply.string()) == (1, b"%d" % i)


def test_data_stays_within_the_clients_window_and_packet(policy: Policy, raw: Callable[..., RawClient]) -> None:
    open_house(policy, source(MIB, 65536))
    client = raw().login()
    number = client.open(window=10_000, packet=1_000)
    assert client.request(number, "exec", b"\0\0\0\1x")
    count = 0
    while count < 10_000:
        message = client.expect(94)
        message.u32()
        data = message.string()
        assert len(data) <= 1_000
        count += len(data)
    assert count == 10_000
    client.quiet(0.5)


# ---- the end of a direction


def test_eof_of_the_client_leaves_the_policys_side_open(policy: Policy, ssh: OpenSsh) -> None:
    async def program(channel: ChannelStream) -> None:
        while await channel.read_data():
            pass
        for _ in range(3):
            await asyncio.sleep(0.05)
            await channel.write(b"still here\n")
        await channel.exit(0)

    open_house(policy, program)
    result = ssh.run("x", stdin=b"all\n")
    assert (result.status, result.out) == (0, b"still here\n" * 3), result
    assert policy.wait_stream().kinds()[0] == "eof"


def test_eof_of_the_policy_leaves_the_clients_side_open(policy: Policy, raw: Callable[..., RawClient]) -> None:
    async def program(channel: ChannelStream) -> None:
        await channel.write(b"last words")
        await channel.eof()
        while await channel.read_data():
            pass
        await channel.exit(len(channel.input))

    open_house(policy, program)
    client = raw().login()
    number = client.execute()
    client.expect(94)
    assert client.expect(96).u32() == 0
    for _ in range(3):
        client.data(number, b"more")
    client.eof(number)
    request = client.expect(98)
    assert (request.u32(), request.string(), request.u8(), request.u32()) == (0, b"exit-status", 0, 12)
    assert client.expect(97).u32() == 0  # and no second EOF before it


def test_output_before_the_exit_is_never_cut(policy: Policy, ssh: OpenSsh) -> None:
    """A slow reader still gets everything, then the status."""
    total = 8 * MIB
    open_house(policy, source(total, 65536))
    process = ssh.popen("x")
    policy.wait_stream().wait(lambda stream: stream.received >= 0, "the stream")
    time.sleep(1)  # the client's pipe is full by now: nothing is announced about that
    got = hashlib.sha256()
    while data := process.stdout.read(100_000):
        got.update(data)
    assert process.wait(PATIENCE_S) == 0
    assert got.hexdigest() == digest(total, 65536)


def test_upload_from_a_file(policy: Policy, ssh: OpenSsh, work: Path) -> None:
    """What scp-like use does: a file as standard input."""
    path = work / "data"
    path.write_bytes(BLOCK * 5 + b"tail")
    open_house(policy, sink)
    with path.open("rb") as file:
        process = ssh.popen("x", stdin=file.fileno())
        out = process.stdout.read().decode()
    assert process.wait(PATIENCE_S) == 0
    assert out.split() == [str(5 * MIB + 4), hashlib.sha256(path.read_bytes()).hexdigest()]
