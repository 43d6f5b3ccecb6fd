"""Clients that break RFC 4254: the connection of the one who does ends, or the channel does, and nobody else notices."""

from __future__ import annotations

import asyncio
from typing import Callable, Iterator

import grpc
import pytest

from faultkit.books import Books, sanitized
from faultkit.client import Bystander, FaultClient, Reaction
from harness import wire
from harness.daemon import Daemon
from harness.policy import Policy, Status, hang
from harness.rawssh import Disconnected
from harness.stream import ChannelStream
from harness.wire import boolean, string, u32

OpenBooks = Callable[..., Books]
WINDOW, PACKET = 2 * 1024 * 1024, 32 * 1024  # what the daemon offers by default
NOBODY = 0xFFFFFFFF


async def program(channel: ChannelStream) -> None:
    """`cat` echoes, `hold` reads nothing, `flood` writes without end, `drain` reads and never ends."""
    command = channel.session.exec.command
    while command == b"cat" and (data := await channel.read_data()):
        await channel.write(data)
    while command == b"flood":
        try:
            await channel.write(b"f" * 65536)
        except Exception as error:  # noqa: BLE001  (gRPC's errors for a client that went have no common class)
            raise Status(grpc.StatusCode.CANCELLED, str(error)) from None
    if command == b"hold":
        await asyncio.Event().wait()
    if command == b"drain":
        await channel.drain()
    await channel.exit(0)


@pytest.fixture
def house(shared: tuple[Policy, Daemon]) -> Policy:
    return shared[0]


@pytest.fixture
def daemon(shared: tuple[Policy, Daemon]) -> Daemon:
    return shared[1]


@pytest.fixture(scope="module")
def watch(shared: tuple[Policy, Daemon]) -> Iterator[tuple[Books, Bystander]]:
    """Books with one bystander in them, for the whole module."""
    daemon = shared[1]
    for _ in range(8):
        first = FaultClient(daemon.port)
        first.login()
        first.execute("drain")
        first.close()
    bystander = Bystander(daemon.port)
    yield Books(daemon, living=1), bystander
    bystander.close()


@pytest.fixture
def connect(daemon: Daemon, watch: tuple[Books, Bystander]) -> Iterator[Callable[[], FaultClient]]:
    """connect(): one more client, logged in. Afterwards all must be gone, and the bystander have noticed nothing."""
    books, bystander = watch
    clients: list[FaultClient] = []

    def make() -> FaultClient:
        clients.append(FaultClient(daemon.port))
        clients[-1].login()
        return clients[-1]

    yield make
    bystander.type(3)
    for client in clients:
        client.close()
    books.balance(slack_kib=8 * 1024)  # the floods leave free memory behind, but all of them together no more than this


def data(channel: int, payload: bytes) -> bytes:
    return bytes([wire.CHANNEL_DATA]) + u32(channel) + string(payload)


def extended(channel: int, payload: bytes, kind: int = 1) -> bytes:
    return bytes([wire.EXTENDED_DATA]) + u32(channel) + u32(kind) + string(payload)


def adjust(channel: int, count: int) -> bytes:
    return bytes([wire.WINDOW_ADJUST]) + u32(channel) + u32(count)


def eof(channel: int) -> bytes:
    return bytes([wire.CHANNEL_EOF]) + u32(channel)


def close(channel: int) -> bytes:
    return bytes([wire.CHANNEL_CLOSE]) + u32(channel)


def request(channel: int) -> bytes:
    return FaultClient.request_message(channel, "exec", string("cat"))


FAULTS: dict[str, tuple[Callable[[int], list[bytes]], str]] = {
    "data-beyond-max-packet": (lambda n: [data(n, b"x" * (PACKET + 1))], "Data beyond the window or the packet size"),
    "extended-data": (lambda n: [extended(n, b"x")], "Extended data from the client"),
    "extended-data-of-no-type": (lambda n: [extended(n, b"x", 77)], "Extended data from the client"),
    "eof-twice": (lambda n: [eof(n), eof(n)], "A second EOF"),
    "data-after-eof": (lambda n: [eof(n), data(n, b"x")], "Data after EOF"),
    "no-data-after-eof": (lambda n: [eof(n), data(n, b"")], "Data after EOF"),
    "close-twice": (lambda n: [close(n), close(n)], "Message for a channel that is not open"),
    "eof-after-close": (lambda n: [close(n), eof(n)], "Message for a channel that is not open"),
    "data-after-close": (lambda n: [close(n), data(n, b"x")], "Message for a channel that is not open"),
    "adjust-after-close": (lambda n: [close(n), adjust(n, 1)], "Message for a channel that is not open"),
    "request-after-close": (lambda n: [close(n), request(n)], "Message for a channel that is not open"),
    "window-overflow": (lambda n: [adjust(n, 0xFFFFFFFF)], "Window beyond 2^32 - 1"),
    "window-overflow-in-steps": (lambda n: [adjust(n, 1 << 31), adjust(n, 1 << 31)], "Window beyond 2^32 - 1"),
    "confirmation": (lambda n: [bytes([wire.OPEN_CONFIRMATION]) + u32(n) + u32(0) + u32(1) + u32(1)], "Reply to a channel open that is not under way"),
    "open-failure": (lambda n: [bytes([wire.OPEN_FAILURE]) + u32(n) + u32(1) + string("") + string("")], "Reply to a channel open that is not under way"),
    "short-data": (lambda n: [bytes([wire.CHANNEL_DATA]) + u32(n) + u32(9) + b"short"], "Malformed channel data"),
    "data-and-more": (lambda n: [data(n, b"x") + b"more"], "Malformed channel data"),
    "short-adjust": (lambda n: [bytes([wire.WINDOW_ADJUST]) + u32(n) + b"\0\0"], "Malformed window adjustment"),
    "eof-and-more": (lambda n: [eof(n) + b"\0"], "Malformed channel EOF"),
    "close-and-more": (lambda n: [close(n) + b"\0"], "Malformed channel close"),
    "short-request": (lambda n: [bytes([wire.CHANNEL_REQUEST]) + u32(n) + string("exec")], "Malformed channel request"),
    "short-open": (lambda n: [bytes([wire.CHANNEL_OPEN]) + string("session") + u32(1)], "Malformed channel open"),
    "open-and-more": (lambda n: [FaultClient.open_message(channel=1, rest=b"more")], "Malformed session open"),
    "short-global-request": (lambda n: [bytes([wire.GLOBAL_REQUEST]) + u32(99)], "Malformed global request"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_rule_ends_the_connection(connect: Callable[[], FaultClient], name: str) -> None:
    messages, reason = FAULTS[name]
    client = connect()
    number = client.execute("drain")
    client.send_together(*messages(number))
    end = client.expect_end()
    assert isinstance(end, Disconnected) and (end.code, end.reason) == (2, reason)


@pytest.mark.parametrize("kind", range(wire.OPEN_CONFIRMATION, wire.CHANNEL_FAILURE + 1))
def test_unknown_channels(connect: Callable[[], FaultClient], kind: int) -> None:
    fields = {
        wire.OPEN_CONFIRMATION: u32(0) + u32(1) + u32(1),
        wire.OPEN_FAILURE: u32(1) + string("") + string(""),
        wire.WINDOW_ADJUST: u32(1),
        wire.CHANNEL_DATA: string("x"),
        wire.EXTENDED_DATA: u32(1) + string("x"),
        wire.CHANNEL_REQUEST: string("exec") + boolean(True) + string("cat"),
    }
    for number in (1, 3, 4, 1000, 1 << 31, NOBODY):
        client = connect()
        assert client.execute("drain") == 0, "the other numbers are not in use"
        client.send(bytes([kind]) + u32(number) + fields.get(kind, b""))
        end = client.expect_end()
        answer = kind in (wire.OPEN_CONFIRMATION, wire.OPEN_FAILURE)
        reason = "Reply to a channel open that is not under way" if answer else "Message for a channel that is not open"
        assert isinstance(end, Disconnected) and end.reason == reason, number


def test_a_channel_whose_opening_is_asked_is_not_open(
    house: Policy, connect: Callable[[], FaultClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number is easily guessed, but nobody has told it to the client."""
    client = connect()
    asked = len(house.requests("SessionRequested"))
    monkeypatch.setitem(house.on.__dict__, "SessionRequested", hang)
    client.send(client.open_message())
    house.wait_for("SessionRequested", asked + 1)
    client.send(data(0, b"x"))
    assert client.expect_end().reason == "Message for a channel that is not open"
    house.wait_end("SessionRequested", "cancelled")


# ---- windows


def given_back(reaction: Reaction) -> int:
    """What the daemon added to the window until then."""
    assert reaction.outcome != "end", reaction
    given = 0
    for answer in reaction.answers:
        if answer.type == wire.WINDOW_ADJUST:
            assert answer.u32() == 0
            given += answer.u32()
    return given


def overfill(client: FaultClient, number: int, left: int) -> Reaction:
    """Uses the window up, with all that is added to it meanwhile, and sends one byte more."""
    while left > 0:
        count = min(PACKET, left)
        left += given_back(client.react(data(number, b"w" * count))) - count
    return client.react(data(number, b"!"))


def test_the_whole_window_and_not_one_byte_more(connect: Callable[[], FaultClient]) -> None:
    """The policy reads nothing: the window is used up, with what its HTTP/2 window took, and then one byte more comes."""
    client = connect()
    number = client.execute("hold")
    left = WINDOW
    while not (reaction := overfill(client, number, left)).end:
        left = given_back(reaction) - 1  # gRPC told late what it took: the byte was within the window
        assert left >= 0, "a byte beyond the window"
    assert reaction.end.reason == "Data beyond the window or the packet size"


def test_maximum_packet_of_zero_is_refused(connect: Callable[[], FaultClient]) -> None:
    client = connect()
    client.send(client.open_message(packet=0))
    failure = client.expect(wire.OPEN_FAILURE)
    assert failure.u32() == 0 and failure.u32() == 1
    assert client.open() == 0, "no slot was lost"


def test_maximum_packet_of_one_byte(connect: Callable[[], FaultClient]) -> None:
    """Each byte in a message of its own, and all of them."""
    client = connect()
    number = client.open(packet=1)
    assert client.request(number, "exec", string("cat"))
    client.data(number, b"one by one")
    got = b""
    while len(got) < len(b"one by one"):
        message = client.expect(wire.CHANNEL_DATA)
        assert message.u32() == 0
        piece = message.string()
        assert len(piece) == 1
        got += piece
    assert got == b"one by one"


def test_a_window_of_zero_gets_nothing(connect: Callable[[], FaultClient]) -> None:
    client = connect()
    number = client.open(window=0)
    client.send(client.request_message(number, "exec", string("flood")))
    assert client.expect(wire.CHANNEL_SUCCESS)
    assert client.react(b"\2").outcome == "silent"
    client.send(adjust(number, 10))
    message = client.expect(wire.CHANNEL_DATA)
    message.u32()
    assert message.string() == b"f" * 10
    assert client.react(adjust(number, 0)).outcome == "silent"
    client.close_channel(number)
    client.until(wire.CHANNEL_CLOSE)


def test_closing_a_flood(house: Policy, connect: Callable[[], FaultClient]) -> None:
    """CLOSE while the policy writes without end: the stream ends, and the channel's number is free again."""
    client = connect()
    before = len(house.streams)
    for _ in range(5):
        number = client.execute("flood")
        assert number == 0
        client.until(wire.CHANNEL_DATA)
        client.close_channel(number)
        client.until(wire.CHANNEL_CLOSE)
    house.board.wait(lambda: sum(stream.ended for stream in house.streams[before:]) == 5, "the ends of five streams")


# ---- many


def test_refused_channels_leave_nothing(house: Policy, daemon: Daemon, connect: Callable[[], FaultClient], open_books: OpenBooks) -> None:
    """100,000 opens of a kind that nobody serves, in one connection."""
    client = connect()
    books = open_books(daemon, living=2)
    count = 2_000 if sanitized() else 100_000
    opening = client.open_message("nonsense@example.com")
    for _ in range(count // 500):
        client.send_together(*[opening] * 500)
        for _ in range(500):
            client.expect(wire.OPEN_FAILURE)
    books.check_growth(2 * 1024, f"after {count} refused channels")
    assert client.open() == 0


def test_sessions_over_the_limit_are_refused(connect: Callable[[], FaultClient]) -> None:
    """Ten are allowed; the eleventh is told so, and may be opened once another has closed."""
    client = connect()
    numbers = [client.open(channel=i) for i in range(10)]
    client.send(client.open_message(channel=10))
    failure = client.expect(wire.OPEN_FAILURE)
    assert failure.u32() == 10 and failure.u32() == 4
    client.close_channel(numbers[4])
    client.expect(wire.CHANNEL_CLOSE)
    assert client.open(channel=11) == numbers[4]


def test_requests_without_end_are_bounded(house: Policy, daemon: Daemon, connect: Callable[[], FaultClient], open_books: OpenBooks) -> None:
    """Replies that the client does not read: it is no longer read itself, instead of being answered into memory."""
    client = connect()
    client.execute("drain")
    books = open_books(daemon, living=2)
    client.socket.settimeout(0.5)
    message = client.request_message(0, "nonsense@example.com")
    sent = 0
    try:
        while sent < 64 * 1024 * 1024:
            packets = b"".join([client.pack(message) for _ in range(1000)])
            client.socket.sendall(packets)
            sent += len(packets)
    except TimeoutError:
        pass
    else:
        raise AssertionError(f"took {sent} bytes of requests without an end")
    books.check_growth(4 * 1024, f"after {sent} bytes of requests")
