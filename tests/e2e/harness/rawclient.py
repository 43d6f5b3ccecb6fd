"""A hostile client: RFC 4252 and RFC 4254 message by message, in any order and with any content."""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from . import wire
from .rawssh import Closed, Disconnected, RawTransport
from .wait import PATIENCE_S
from .wire import Reader, boolean, string, u32

QUIET_TYPES = (wire.IGNORE, wire.DEBUG, wire.EXT_INFO)
NO_CHANNEL = -1
WINDOW, PACKET = 1 << 21, 1 << 15


def _is_elsewhere(message: Reader, channel: int) -> bool:
    """Of another channel than ours of this number, or a CHANNEL_OPEN of the server's."""
    if message.type == wire.CHANNEL_OPEN:
        return True
    if not wire.OPEN_CONFIRMATION <= message.type <= wire.CHANNEL_FAILURE:
        return False
    return Reader(message.message).u32() != channel


class UserKey:
    """An ed25519 key that lives in memory only."""

    algorithm = b"ssh-ed25519"

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()
        self.blob = string(self.algorithm) + string(self._private.public_key().public_bytes_raw())

    def sign(self, data: bytes) -> bytes:
        return string(self.algorithm) + string(self._private.sign(data))


class RawClient(RawTransport):
    """expect() reads on to what the test waits for; what comes on the way is kept."""

    def __init__(self, port: int, **how: object) -> None:
        self.banners: list[str] = []
        self.global_requests: list[bytes] = []
        self.told: list[str] = []  # on stderr, why a request fails
        self.windows_given: dict[int, int] = {}  # by our channel number: what WINDOW_ADJUST added
        self.ours: dict[int, int] = {}  # our channel number by the server's
        super().__init__(port, **how)

    def recv(self) -> Reader:
        message = super().recv()
        if message.type == wire.OPEN_CONFIRMATION:
            ours, servers = struct.unpack(">II", message.message[1:9])
            self.ours[servers] = ours
        return message

    def expect(self, *types: int, channel: int | None = None) -> Reader:
        """The next message that matters; it must be one of these. With a channel (by our number), what belongs to another
        one is left for whoever reads next: RFC 4254 has an order within a channel, and none between two."""
        aside: list[bytes] = []
        try:
            while True:
                message = self.recv()
                if message.type not in types and self._note(message):
                    continue
                if channel is not None and _is_elsewhere(message, channel):
                    aside.append(message.message)
                elif message.type in types:
                    return message
                else:
                    raise AssertionError(f"expected {types}, got {message!r}")
        finally:
            self._held[:0] = aside

    def _note(self, message: Reader) -> bool:
        """Writes down what may come at any time."""
        if message.type == wire.USERAUTH_BANNER:
            self.banners.append(message.string().decode())
        elif message.type == wire.GLOBAL_REQUEST:
            self.global_requests.append(message.string())
        elif message.type == wire.WINDOW_ADJUST:
            channel = message.u32()
            self.windows_given[channel] = self.windows_given.get(channel, 0) + message.u32()
        else:
            return message.type in QUIET_TYPES
        return True

    def quiet(self, seconds: float) -> None:
        """Nothing that matters comes for so long: for answers that must be held back."""
        self.socket.settimeout(seconds)
        try:
            while (message := self.recv()).type in (*QUIET_TYPES, wire.GLOBAL_REQUEST):
                pass
        except TimeoutError:
            return
        finally:
            self.socket.settimeout(PATIENCE_S)
        raise AssertionError(f"expected silence, got {message!r}")

    def until(self, *types: int) -> Reader:
        """Skips everything before the next message of these."""
        while (message := self.recv()).type not in types:
            pass
        return message

    def expect_disconnect(self) -> Disconnected:
        """Reads to the DISCONNECT; a socket closed without one is an error."""
        try:
            while True:
                message = self.recv()
                if message.type in (wire.USERAUTH_SUCCESS, wire.OPEN_CONFIRMATION):
                    raise AssertionError(f"expected a disconnect, got {message!r}")
                if message.type == wire.USERAUTH_BANNER:
                    self.banners.append(message.string().decode())
        except Disconnected as end:
            return end

    def expect_end(self) -> Disconnected | Closed:
        """The connection is over, with or without DISCONNECT."""
        try:
            return self.expect_disconnect()
        except Closed as end:
            return end

    # ---- RFC 4252

    def service(self, name: str = "ssh-userauth") -> None:
        self.send(bytes([wire.SERVICE_REQUEST]) + string(name))
        if name == "ssh-userauth":
            assert self.expect(wire.SERVICE_ACCEPT).string() == name.encode()

    @staticmethod
    def auth_message(user: bytes | str, method: str, rest: bytes = b"", service: str = "ssh-connection") -> bytes:
        return bytes([wire.USERAUTH_REQUEST]) + string(user) + string(service) + string(method) + rest

    @staticmethod
    def password_message(user: bytes | str, password: bytes | str) -> bytes:
        return RawClient.auth_message(user, "password", boolean(False) + string(password))

    @staticmethod
    def change_message(user: bytes | str, old: bytes | str, new: bytes | str) -> bytes:
        return RawClient.auth_message(user, "password", boolean(True) + string(old) + string(new))

    @staticmethod
    def kbdint_message(user: bytes | str, submethods: bytes | str = "", language: bytes | str = "") -> bytes:
        return RawClient.auth_message(user, "keyboard-interactive", string(language) + string(submethods))

    @staticmethod
    def responses_message(*responses: bytes | str, count: int | None = None) -> bytes:
        """INFO_RESPONSE; `count`: what it says of their number, where that is a lie."""
        return bytes([wire.INFO_RESPONSE]) + u32(len(responses) if count is None else count) + b"".join(map(string, responses))

    def verdict(self) -> Reader:
        """SUCCESS, FAILURE or message 60."""
        return self.expect(wire.USERAUTH_SUCCESS, wire.USERAUTH_FAILURE, wire.PK_OK)

    def ask(self, message: bytes) -> Reader:
        self.send(message)
        return self.verdict()

    def try_none(self, user: bytes | str = "alice") -> Reader:
        return self.ask(self.auth_message(user, "none"))

    def try_password(self, user: bytes | str, password: bytes | str) -> Reader:
        return self.ask(self.password_message(user, password))

    def try_kbdint(self, user: bytes | str = "alice", **how: bytes | str) -> Reader:
        return self.ask(self.kbdint_message(user, **how))

    def respond(self, *responses: bytes | str) -> Reader:
        return self.ask(self.responses_message(*responses))

    def probe(self, user: str, key: UserKey) -> Reader:
        return self.ask(self.auth_message(user, "publickey", boolean(False) + string(key.algorithm) + string(key.blob)))

    def key_message(
        self, user: str, key: UserKey, *, session_id: bytes | None = None, signer: UserKey | None = None, signed_user: str | None = None
    ) -> bytes:
        """A signed request; the session, the signer and the signed name can be other ones than they should."""
        rest = boolean(True) + string(key.algorithm) + string(key.blob)
        signed = string(session_id or self.session_id) + self.auth_message(signed_user or user, "publickey", rest)
        return self.auth_message(user, "publickey", rest + string((signer or key).sign(signed)))

    def try_key(self, user: str, key: UserKey, **how: object) -> Reader:
        return self.ask(self.key_message(user, key, **how))

    def login(self, user: str = "alice") -> "RawClient":
        """Where the policy wants no credential."""
        self.service()
        assert self.try_none(user).type == wire.USERAUTH_SUCCESS
        return self

    # ---- RFC 4254

    @staticmethod
    def open_message(kind: str = "session", channel: int = 0, rest: bytes = b"", window: int = WINDOW, packet: int = PACKET) -> bytes:
        return bytes([wire.CHANNEL_OPEN]) + string(kind) + u32(channel) + u32(window) + u32(packet) + rest

    def open(self, kind: str = "session", channel: int = 0, **how: object) -> int:
        """The server's number of the new channel."""
        self.send(self.open_message(kind, channel, **how))
        confirmation = self.expect(wire.OPEN_CONFIRMATION, channel=channel)
        assert confirmation.u32() == channel
        return confirmation.u32()

    @staticmethod
    def request_message(channel: int, name: str, rest: bytes = b"", reply: bool = True) -> bytes:
        return bytes([wire.CHANNEL_REQUEST]) + u32(channel) + string(name) + boolean(reply) + rest

    def request(self, channel: int, name: str, rest: bytes = b"") -> bool:
        """Sent with want_reply; True for SUCCESS."""
        self.send(self.request_message(channel, name, rest))
        answers = (wire.CHANNEL_SUCCESS, wire.CHANNEL_FAILURE, wire.EXTENDED_DATA)
        while (message := self.expect(*answers, channel=self.ours.get(channel))).type == wire.EXTENDED_DATA:
            self.told.append(message.message[13:].decode())
        return message.type == wire.CHANNEL_SUCCESS

    def execute(self, command: bytes | str = "true", channel: int = 0) -> int:
        """Opens a session and starts a command; the server's number of the channel."""
        number = self.open(channel=channel)
        assert self.request(number, "exec", string(command))
        return number

    def data(self, channel: int, data: bytes) -> None:
        self.send(bytes([wire.CHANNEL_DATA]) + u32(channel) + string(data))

    def eof(self, channel: int) -> None:
        self.send(bytes([wire.CHANNEL_EOF]) + u32(channel))

    def close_channel(self, channel: int) -> None:
        self.send(bytes([wire.CHANNEL_CLOSE]) + u32(channel))

    def global_request(self, name: str, rest: bytes = b"") -> bool:
        """Sent with want_reply; True for REQUEST_SUCCESS."""
        self.send(bytes([wire.GLOBAL_REQUEST]) + string(name) + boolean(True) + rest)
        return self.expect(wire.REQUEST_SUCCESS, wire.REQUEST_FAILURE, channel=NO_CHANNEL).type == wire.REQUEST_SUCCESS

    def disconnect(self, code: int = 11, reason: str = "bye") -> None:
        self.send(bytes([wire.DISCONNECT]) + u32(code) + string(reason) + string(""))
        self.close()
