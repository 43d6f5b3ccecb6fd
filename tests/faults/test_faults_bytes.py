"""Bytes that no honest client sends: version lines, packet lengths, padding, corruption, cuts at any place, one byte at a time."""

from __future__ import annotations

from typing import Callable

import pytest

from faultkit.books import Books
from faultkit.client import Bystander, Cut, CutClient, FaultClient, TrickleClient
from harness import wire
from harness.answers import cat
from harness.daemon import Daemon
from harness.policy import Policy
from harness.rawssh import Closed, Disconnected
from harness.wire import string, u32

OpenBooks = Callable[..., Books]
Bystand = Callable[[Daemon], Bystander]
BAD_LENGTH, CORRUPTED = "bad packet length", "corrupted packet"


program = cat


@pytest.fixture
def house(shared: tuple[Policy, Daemon]) -> Policy:
    return shared[0]


@pytest.fixture
def daemon(shared: tuple[Policy, Daemon]) -> Daemon:
    return shared[1]


def session(client: FaultClient) -> FaultClient:
    """From the version line to a keystroke that came back, through every kind of message that a login has."""
    client.greet()
    client.exchange_keys()
    client.login()
    number = client.execute("cat")
    client.data(number, b"hello")
    assert client.expect(wire.CHANNEL_DATA).message[5:] == string(b"hello")
    client.eof(number)
    client.until(wire.CHANNEL_CLOSE)
    client.close_channel(number)
    client.disconnect()
    return client


def warm_up(daemon: Daemon) -> None:
    for _ in range(8):
        session(FaultClient(daemon.port, keys=False))


# ---- version lines


@pytest.mark.parametrize(
    "line",
    [b"SSH-2.0-x\r\n", b"SSH-2.0-x\n", b"SSH-1.99-Old_1.0 with a comment\r\n", b"SSH-2.0-" + b"x" * 245 + b"\r\n"],
    ids=["short", "no-cr", "1.99", "255-bytes"],
)
@pytest.mark.parametrize("pace", ["whole", "bytewise"])
def test_version_lines_that_are_fine(house: Policy, daemon: Daemon, line: bytes, pace: str) -> None:
    client = (TrickleClient if pace == "bytewise" else FaultClient)(daemon.port, keys=False)
    client.write(line)
    client.client_version = line.rstrip(b"\r\n")
    client.server_version = client.read_line()
    client.exchange_keys()
    client.login()
    assert house.requests("BeginAuth")[-1].context.client_version == client.client_version.decode()


LONG = b"version line longer than 255 bytes"
REFUSED_LINES = {
    "256-bytes": (b"SSH-2.0-" + b"x" * 246 + b"\r\n", LONG),
    "no-end": (b"SSH-2.0-" + b"x" * 300, LONG),
    "64-kib": (b"SSH-2.0-" + b"x" * 65536, LONG),
    "nul": (b"SSH-2.0-Raw\0_1.0\r\n", b"NUL in the version line"),
    "nul-before-the-end": (b"SSH-2.0-\0", b"NUL in the version line"),
    "empty": (b"SSH-2.0-\r\n", b"malformed version line"),
    "control": (b"SSH-2.0-Raw\x1b[2J\r\n", b"malformed version line"),
    "not-utf-8": (b"SSH-2.0-\xff\xfe\r\n", b"malformed version line"),
    "ssh-1": (b"SSH-1.5-Old\r\n", b"SSH protocol 2.0 is required"),
    "ssh-3": (b"SSH-3.0-New\r\n", b"SSH protocol 2.0 is required"),
    "http": (b"GET / HTTP/1.1\r\n\r\n", b"this is an SSH server"),
    "tls": (bytes.fromhex("16030100c8010000c40303"), b"this is an SSH server"),
    "blank": (b"\r\n", b"this is an SSH server"),
    "lower-case": (b"ssh-2.0-x\r\n", b"this is an SSH server"),
}


@pytest.mark.parametrize("name", REFUSED_LINES)
@pytest.mark.parametrize("pace", ["whole", "bytewise"])
def test_version_lines_that_are_refused(house: Policy, daemon: Daemon, open_books: OpenBooks, name: str, pace: str) -> None:
    line, reason = REFUSED_LINES[name]
    books = open_books(daemon)
    asked, closed = len(house.names()), len(daemon.events("closed", reason=reason.decode()))
    client = FaultClient(daemon.port, keys=False)
    try:
        for piece in [line] if pace == "whole" else [line[i : i + 1] for i in range(min(len(line), 300))]:
            client.write(piece)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it has seen enough
    rest = client.rest()
    assert rest[:1] == [b"SSH-2.0"] and (rest[1:] == [reason] or pace == "bytewise" and not rest[1:]), rest
    daemon.wait_event("closed", closed + 1, reason=reason.decode())
    assert set(house.names()[asked:]) <= {"ConnectionMade", "ConnectionLost"}
    books.balance()


def test_a_version_line_that_never_ends_is_cut_off_at_the_login_deadline(policy: Policy, start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon("--login-timeout", "1s")
    client = FaultClient(daemon.port, keys=False)
    client.write(b"SSH-2.0-slow")
    assert client.rest()[0] == b"SSH-2.0"
    daemon.wait_event("closed", reason="Login took too long")


# ---- lengths, padding, corruption


def plain(port: int) -> FaultClient:
    return FaultClient(port, keys=False).greet()


def keyed(port: int) -> FaultClient:
    return FaultClient(port)


def logged_in(port: int) -> FaultClient:
    client = FaultClient(port)
    client.login()
    return client


PLACES = {"plain": plain, "keyed": keyed, "logged-in": logged_in}
# Too small, too large, and not a multiple of the block, whether the length field counts as part of it or not.
LENGTHS = (0, 1, 2, 5, 7, 8, 13, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF, (1 << 18) + 16, (1 << 20) + 16)


@pytest.mark.parametrize("place", PLACES)
def test_packet_lengths(house: Policy, daemon: Daemon, bystand: Bystand, open_books: OpenBooks, place: str) -> None:
    warm_up(daemon)
    books = open_books(daemon)
    bystander = bystand(daemon)
    for length in (*LENGTHS, *((1 << 16) + odd for odd in (1, 3, 7, 9, 15))):
        client = PLACES[place](daemon.port)
        client.write(u32(length))
        if length < 64:
            client.write(b"\4" * 64)  # the whole packet and more
        end = client.expect_end()
        assert isinstance(end, Disconnected) and (end.code, end.reason) == (2, BAD_LENGTH), f"length {length}: {end!r}"
        client.close()
    bystander.type()
    books.balance(added=1)


@pytest.mark.parametrize("place", PLACES)
def test_a_declared_length_costs_no_memory(house: Policy, daemon: Daemon, open_books: OpenBooks, place: str) -> None:
    """The largest packet that is allowed is announced, and never sent: 200 times."""
    warm_up(daemon)
    books = open_books(daemon)
    biggest = (96 if place != "logged-in" else 256) * 1024
    field = u32(biggest - 4 if place == "plain" else biggest)
    clients = [PLACES[place](daemon.port) for _ in range(200)]
    for client in clients:
        client.write(field + b"\4" * 20)
    clients[-1].write(b"\4")
    books.check_growth(16 * 1024, "with 200 connections")  # their packets would be 18 MiB and more
    for client in clients:
        client.close()
    books.balance(slack_kib=16 * 1024)


PADDINGS = {"none": 0, "too-little": 3, "more-than-there-is": 200, "all-but-the-type": 15, "all": 255}


@pytest.mark.parametrize("place", PLACES)
def test_padding(house: Policy, daemon: Daemon, bystand: Bystand, place: str) -> None:
    """No payload at all, padding beyond the packet, less than four bytes of it."""
    bystander = bystand(daemon)
    for name, padding in PADDINGS.items():
        client = PLACES[place](daemon.port)
        body = bytes([padding]) + bytes([wire.IGNORE]) + b"\0" * (14 if place != "plain" else 10)
        if place == "plain":
            client.write(u32(len(body)) + body)
        else:
            client.write(client.seal_body(body))
        end = client.expect_end()
        assert isinstance(end, Disconnected) and (end.code, end.reason) == (2, "bad packet padding"), f"{name}: {end!r}"
        client.close()
    bystander.type()


def test_a_flipped_bit_anywhere_ends_the_connection(house: Policy, daemon: Daemon, bystand: Bystand, open_books: OpenBooks) -> None:
    """In the length, the text or the tag; nothing of such a packet is acted upon."""
    warm_up(daemon)
    books = open_books(daemon)
    bystander = bystand(daemon)
    asked = len(house.requests("SessionRequested"))
    size = len(logged_in(daemon.port).pack(FaultClient.open_message()))
    for at in range(size):
        client = logged_in(daemon.port)
        packet = bytearray(client.pack(client.open_message()))
        packet[at] ^= 1 << at % 8
        try:
            # A length that has grown waits for more.
            client.write(bytes(packet) + (b"\0" * (1 << 18) if at < 4 else b""))
        except (BrokenPipeError, ConnectionResetError):
            pass
        end = client.expect_end()
        # What is still on its way to a closed socket may reset the connection under the last words.
        assert at < 4 or isinstance(end, Disconnected), f"byte {at}: {end!r}"
        assert isinstance(end, Closed) or end.reason in (BAD_LENGTH, CORRUPTED), f"byte {at}: {end!r}"
        client.close()
    bystander.type()
    assert len(house.requests("SessionRequested")) == asked
    books.balance(added=1)


# ---- cuts


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_cut_at_every_byte_of_a_login(
    house: Policy, daemon: Daemon, bystand: Bystand, open_books: OpenBooks, how: str
) -> None:
    warm_up(daemon)
    recorded = session(CutClient(daemon.port)).written
    assert recorded > 600, "version line, key exchange, login, session, data, ends"
    books = open_books(daemon)
    bystander = bystand(daemon)
    for after in range(recorded):
        client = CutClient(daemon.port, after)
        with pytest.raises(Cut):
            session(client)
        assert client.written <= after
        client.reset() if how == "reset" else client.close()
        if after % 16 == 0:
            bystander.type()
    books.balance(added=1)


def test_answers_that_nobody_reads(house: Policy, daemon: Daemon, bystand: Bystand, open_books: OpenBooks) -> None:
    """A whole login and session in one go, and the line cut at once: every answer meets a closed socket."""
    warm_up(daemon)
    books = open_books(daemon)
    bystander = bystand(daemon)
    for round_number in range(100):
        client = FaultClient(daemon.port)
        client.send_together(
            bytes([wire.SERVICE_REQUEST]) + string("ssh-userauth"),
            client.auth_message("alice", "none"),
            client.open_message(),
            client.request_message(0, "exec", string("cat")),
            bytes([wire.CHANNEL_DATA]) + u32(0) + string(b"x" * 1000),
        )
        client.reset() if round_number % 2 else client.close()
    bystander.type()
    books.balance(added=1)


# ---- one byte at a time


def test_a_login_byte_by_byte(house: Policy, daemon: Daemon, open_books: OpenBooks) -> None:
    """Both directions: each segment carries one byte, each read takes one."""
    warm_up(daemon)
    books = open_books(daemon)
    session(TrickleClient(daemon.port, keys=False))
    books.balance()
