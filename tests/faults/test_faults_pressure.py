"""Back-pressure: who does not read costs a bounded amount of memory, and nobody else a keystroke.

The bounds are reliability figures of the daemon: 4 MiB more for each of the stalls, 16 MiB for all channels of one connection.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator

import grpc
import pytest

from faultkit.books import Books
from faultkit.client import Bystander, FaultClient
from harness import wire
from harness.answers import open_house
from harness.daemon import Daemon, run_once
from harness.policy import Gate, Policy, Status
from harness.rawssh import Closed, Disconnected
from harness.stream import ChannelStream
from harness.wait import PATIENCE_S
from harness.wire import string, u32

MIB = 1024 * 1024
STALL_KIB = 4 * 1024
CONNECTION_KIB = 16 * 1024
GIB = 1 << 30
WIDE_OPEN = 0xFFFFFFFF
CHANNELS = 1000
# What a thousand streams cost in gRPC's own books once bytes have passed: below 4 KiB each.
STREAMS_KIB = 4 * 1024


@dataclass
class House:
    """A policy whose programs are `flood BYTES`, `flood-later BYTES` (at the gate), `hold` (reads nothing) and `cat`."""

    policy: Policy
    gate: Gate
    chunk: int = 64 * 1024  # of a flood, in one message
    sent: int = 0  # by floods, as far as gRPC took it

    async def program(self, channel: ChannelStream) -> None:
        words = channel.session.exec.command.split()
        if words[0] == b"hold":
            await asyncio.Event().wait()
        if words[0] == b"flood-later":
            await self.gate.passed()
        if words[0].startswith(b"flood"):
            await self.flood(channel, int(words[1]))
        while words[0] == b"cat" and (data := await channel.read_data()):
            await channel.write(data)
        await channel.exit(0)

    async def flood(self, channel: ChannelStream, left: int) -> None:
        """Its client may go at any moment; gRPC's errors for that have no common class."""
        chunk = b"f" * self.chunk
        while left > 0:
            try:
                await channel.write(chunk[:left])
            except Exception as error:  # noqa: BLE001
                raise Status(grpc.StatusCode.CANCELLED, str(error)) from None
            left -= len(chunk)
            self.sent += len(chunk)


@pytest.fixture
def policy(work: Path) -> Iterator[Policy]:
    """Its windows stay at 64 KiB: gRPC would widen them to what it measures, and the test's own memory would take all that is sent."""
    with Policy(f"unix:{work}/policy.sock", (("grpc.http2.bdp_probe", 0),)) as policy:
        yield policy


@pytest.fixture
def house(policy: Policy) -> House:
    house = House(policy, policy.gate())
    open_house(policy, house.program)
    return house


@dataclass
class Scene:
    """A warm daemon, its books, and somebody typing."""

    daemon: Daemon
    books: Books
    bystander: Bystander
    house: House
    clients: list[FaultClient] = field(default_factory=list)

    def connect(self) -> FaultClient:
        self.clients.append(FaultClient(self.daemon.port))
        self.clients[-1].login()
        return self.clients[-1]

    def until_still(self, progress: Callable[[], int]) -> None:
        """Types until nothing has moved for a while: that nothing follows is announced by nobody."""
        still, end = 0, time.monotonic() + PATIENCE_S
        while still < 10:
            before = progress()
            self.bystander.type(10)
            time.sleep(0.05)
            still = still + 1 if progress() == before else 0
            assert time.monotonic() < end, f"it does not stall: {progress()}, {self.books.growth_kib()} KiB more"


def download(client: FaultClient, count: int) -> None:
    """Reads so many bytes of channel 0, opening the window again."""
    got = 0
    while got < count:
        message = client.until(wire.CHANNEL_DATA)
        got += len(message.message) - 9


@pytest.fixture
def stage(house: House, start_daemon: Callable[..., Daemon], open_books: Callable[..., Books]) -> Iterator[Callable[..., Scene]]:
    """stage(*flags): the scene, once a megabyte or two have gone each way."""
    scenes: list[Scene] = []

    def make(*flags: str) -> Scene:
        daemon = start_daemon("--workers", "1", *flags)
        client = FaultClient(daemon.port)
        client.login()
        client.open(window=WIDE_OPEN)
        assert client.request(0, "exec", string(b"flood %d" % (8 * MIB)))
        download(client, 8 * MIB)
        client.close()
        client = FaultClient(daemon.port)
        client.login()
        number = client.execute("cat")
        for _ in range(32):
            client.data(number, b"c" * 32768)
        download(client, 32 * 32768)
        client.close()
        bystander = Bystander(daemon.port)
        scenes.append(Scene(daemon, open_books(daemon, living=1), bystander, house))
        return scenes[-1]

    yield make
    for scene in scenes:
        for client in scene.clients:
            client.close()
        scene.bystander.type(3)
        # A connection of many channels brings up two more links to the policy, and memory that was used stays with the heap.
        many = len(scene.house.policy.streams) > 100
        scene.books.balance(slack_kib=1 << 20 if many else 2 * STALL_KIB, links=2 * many)
        scene.bystander.client.close()


# ---- one channel


def test_a_client_that_does_not_read_its_socket(stage: Callable[..., Scene], house: House) -> None:
    """Its windows are wide open: the daemon could send all of the GiB, if somebody took it."""
    scene = stage()
    client = scene.connect()
    client.open(window=WIDE_OPEN)
    house.sent = 0
    client.send(client.request_message(0, "exec", string(b"flood %d" % GIB)))
    scene.until_still(lambda: house.sent)
    assert 0 < house.sent < 64 * MIB
    scene.books.check_growth(STALL_KIB, "while a client does not read")
    download(client, 64 * MIB)  # it goes on where it stopped


def test_a_client_that_does_not_open_its_window(stage: Callable[..., Scene], house: House) -> None:
    scene = stage()
    client = scene.connect()
    client.open(window=100_000)
    house.sent = 0
    client.send(client.request_message(0, "exec", string(b"flood %d" % GIB)))
    download(client, 100_000)
    scene.until_still(lambda: house.sent)
    assert client.react(b"\2").outcome == "silent"
    assert house.sent < 64 * MIB
    scene.books.check_growth(STALL_KIB, "while a client's window is closed")
    client.send(bytes([wire.WINDOW_ADJUST]) + u32(0) + u32(32 * MIB))
    download(client, 32 * MIB)


def fill(client: FaultClient, windows: dict[int, int]) -> int:
    """Sends all that these channels' windows (by the server's number) take; how much it was."""
    sent = 0
    for number, left in windows.items():
        while left > 0:
            count = min(left, 32768)
            client.data(number, b"w" * count)
            left -= count
            sent += count
        windows[number] = 0
    for answer in client.react(b"\2").answers:
        if answer.type == wire.WINDOW_ADJUST:
            channel = answer.u32()
            windows[channel] += answer.u32()
    return sent


def test_a_policy_that_does_not_read(stage: Callable[..., Scene]) -> None:
    """The client would send a GiB; it gets no further than the windows between it and the policy."""
    scene = stage()
    client = scene.connect()
    client.execute("hold")
    windows, sent = {0: 2 * MIB}, 0

    def more() -> int:
        nonlocal sent
        sent += fill(client, windows)
        return sent

    scene.until_still(more)
    assert 2 * MIB <= sent < 64 * MIB
    scene.books.check_growth(STALL_KIB, "while the policy does not read")


def test_requests_for_a_policy_that_does_not_read(stage: Callable[..., Scene]) -> None:
    """They need no window: 50,000 of each are forgotten, not kept."""
    scene = stage()
    client = scene.connect()
    client.execute("hold")
    fill(client, {0: 2 * MIB})
    resize = client.request_message(0, "window-change", u32(80) + u32(24) + u32(0) + u32(0), reply=False)
    signal = client.request_message(0, "signal", string("INT"), reply=False)
    for _ in range(50):
        client.send_together(*[resize, signal] * 1000)
        scene.bystander.type()
    assert client.react(b"\2").outcome != "end"
    scene.books.check_growth(STALL_KIB, "after 100,000 requests that the policy does not read")


# ---- new keys


def test_the_default_deadline_for_new_keys_is_a_minute() -> None:
    line = next(line for line in run_once("--help").stdout.splitlines() if "--rekey-answer" in line)
    assert line.endswith("[1m]")


@pytest.mark.slow
@pytest.mark.parametrize("reads", [True, False], ids=["reading", "not-reading"])
def test_a_client_that_ignores_our_kexinit(stage: Callable[..., Scene], house: House, reads: bool) -> None:
    """Mid-download: nothing more is sent or kept, and at the deadline it is over."""
    scene = stage("--rekey-bytes", "1MiB", "--rekey-answer", "3s")
    client = scene.connect()
    client.open(window=WIDE_OPEN)
    house.sent = 0
    client.send(client.request_message(0, "exec", string(b"flood %d" % GIB)))
    got = 0
    while reads and (payload := client._read_packet())[0] != wire.KEXINIT:
        got += len(payload)
    started = time.monotonic()
    scene.until_still(lambda: house.sent)
    assert house.sent < 64 * MIB
    scene.books.check_growth(STALL_KIB, "while a client owes us its KEXINIT")
    scene.daemon.wait_event("closed", reason="key exchange was not finished in time")
    if reads:
        assert 2 < time.monotonic() - started
        assert got < 2 * MIB
        with pytest.raises((Disconnected, Closed)) as end:
            while True:
                assert (payload := client._read_packet())[0] not in (wire.CHANNEL_DATA, wire.EXTENDED_DATA)
                client._raise_disconnect(payload)
        assert isinstance(end.value, Closed) or end.value.code == 3


# ---- a thousand channels


def open_many(scene: Scene, command: bytes) -> tuple[FaultClient, dict[int, int]]:
    """A thousand sessions that run this; the windows that the daemon offers, by its number of the channel."""
    client = scene.connect()
    windows: dict[int, int] = {}
    numbers = []
    for first in range(0, CHANNELS, 100):
        client.send_together(*[client.open_message(channel=i, window=WIDE_OPEN) for i in range(first, first + 100)])
        for _ in range(100):
            confirmation = client.expect(wire.OPEN_CONFIRMATION)
            confirmation.u32()
            numbers.append(confirmation.u32())
            windows[numbers[-1]] = confirmation.u32()
        client.send_together(*[client.request_message(n, "exec", string(command)) for n in numbers[first:]])
        for _ in range(100):
            client.expect(wire.CHANNEL_SUCCESS)
        scene.bystander.type()
    streams = CHANNELS + 3  # the warm-up's and the bystander's
    scene.house.policy.board.wait(lambda: len(scene.house.policy.streams) == streams, f"{streams} streams")
    return client, windows


MANY = ("--max-sessions", str(CHANNELS), "--max-channels", str(CHANNELS))


@pytest.mark.parametrize("chunk", [1024, 4096, 65536])
def test_a_thousand_channels_whose_client_does_not_read(stage: Callable[..., Scene], house: House, chunk: int) -> None:
    scene = stage(*MANY)
    house.chunk = chunk
    open_many(scene, b"flood-later %d" % MIB)
    idle = scene.books.growth_kib()
    house.sent = 0
    house.gate.open()
    scene.until_still(lambda: house.sent)
    growth = scene.books.growth_kib() - idle
    print(f"{CHANNELS} idle channels: {idle} KiB; the policy's {house.sent >> 20} MiB: {growth} KiB more")
    assert house.sent < 1000 * MIB
    scene.books.check_growth(idle + CONNECTION_KIB + STREAMS_KIB, "with a thousand floods")


def test_a_thousand_channels_whose_policy_does_not_read(stage: Callable[..., Scene]) -> None:
    scene = stage(*MANY)
    client, windows = open_many(scene, b"hold")
    idle, sent = scene.books.growth_kib(), 0
    offered = sum(windows.values())
    assert offered <= 16 * MIB, "windows shrink as channels multiply"

    def more() -> int:
        nonlocal sent
        sent += fill(client, windows)
        return sent

    scene.until_still(more)
    growth = scene.books.growth_kib() - idle
    print(f"{CHANNELS} idle channels: {idle} KiB; {offered >> 20} MiB offered, {sent >> 20} MiB sent: {growth} KiB more")
    assert sent >= offered
    scene.books.check_growth(idle + CONNECTION_KIB + STREAMS_KIB, "with a thousand windows full")
