"""A hostile server: speaks to clients message by message, in any order and with any content, and remembers what they said."""

from __future__ import annotations

import hashlib
import socket
import threading
from typing import Any, Callable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from . import wire
from .answers import hop
from .keys import Key
from .rawssh import CIPHER, KEX, Closed, Disconnected, RawTransport
from .sshd import host_line
from .wait import PATIENCE_S, Board
from .wire import Reader, boolean, mpint, string, u32

WINDOW, PACKET = 1 << 21, 1 << 15


class ServerKey:
    """An ed25519 host key; with `certified` it shows the certificate that certify() made last."""

    def __init__(self, key: Key, certified: bool = False) -> None:
        self._private: Any = load_ssh_private_key(key.path.read_bytes(), None)
        self.public = key.public
        self.blob = key.certificate if certified else key.blob
        self.algorithm = "ssh-ed25519-cert-v01@openssh.com" if certified else "ssh-ed25519"

    def sign(self, data: bytes) -> bytes:
        return string("ssh-ed25519") + string(self._private.sign(data))


class RawServed(RawTransport):
    """One connection, from its first byte; greet() takes it past the key exchange."""

    def __init__(self, peer: socket.socket, key: ServerKey) -> None:  # the other one connects
        peer.settimeout(PATIENCE_S)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = peer
        self.key = key
        self.client_version = b""
        self.server_version = b"SSH-2.0-Raw_1.0"
        self.session_id = self.host_key = b""
        self.seen: list[Reader] = []  # what came encrypted
        self._buffer, self._held = b"", []
        self._out = self._in = None

    def greet(self) -> "RawServed":
        self.socket.sendall(self.server_version + b"\r\n")
        self.client_version = self.read_line()
        self.exchange_keys()
        return self

    # ---- keys, from the server's side

    def _kexinit(self) -> bytes:
        lists = [KEX, self.key.algorithm, CIPHER, CIPHER, "hmac-sha2-256", "hmac-sha2-256", "none", "none", "", ""]
        return bytes([wire.KEXINIT]) + bytes(16) + b"".join(map(string, lists)) + boolean(False) + u32(0)

    def signature(self, exchange_hash: bytes) -> bytes:
        return self.key.sign(exchange_hash)

    def agree(self, client_init: bytes | None = None) -> tuple[int, bytes]:
        ours = self._kexinit()
        self.send(ours)
        theirs = client_init or self._until(wire.KEXINIT)
        client_public = Reader(self._until(wire.KEX_ECDH_INIT)).string()
        private = X25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        secret = int.from_bytes(private.exchange(X25519PublicKey.from_public_bytes(client_public)), "big")
        hashed = b"".join(map(string, (self.client_version, self.server_version, theirs, ours, self.key.blob, client_public, public)))
        exchange_hash = hashlib.sha256(hashed + mpint(secret)).digest()
        self.session_id = self.session_id or exchange_hash
        self.send(bytes([wire.KEX_ECDH_REPLY]) + string(self.key.blob) + string(public) + string(self.signature(exchange_hash)))
        return secret, exchange_hash

    def exchange_keys(self, client_init: bytes | None = None) -> None:
        secret, exchange_hash = self.agree(client_init)
        self.send(bytes([wire.NEWKEYS]))
        self._out = self._direction(secret, exchange_hash, b"D", b"B")
        self._until(wire.NEWKEYS)
        self._in = self._direction(secret, exchange_hash, b"C", b"A")

    # ---- messages

    def recv(self) -> Reader:
        message = super().recv()
        self.seen.append(message)
        return message

    def until(self, *types: int) -> Reader:
        """Skips everything before the next message of these."""
        while (message := self.recv()).type not in types:
            pass
        return message

    def take_service(self) -> None:
        """The client wants to log in."""
        assert self.until(wire.SERVICE_REQUEST).string() == b"ssh-userauth"
        self.send(bytes([wire.SERVICE_ACCEPT]) + string("ssh-userauth"))

    def take_request(self) -> tuple[str, str, Reader]:
        """The next USERAUTH_REQUEST: user, method and the rest."""
        message = self.until(wire.USERAUTH_REQUEST)
        user, _, method = (message.string().decode() for _ in range(3))
        return user, method, message

    def refuse_login(self, methods: str = "password,publickey", partial: bool = False) -> None:
        self.send(bytes([wire.USERAUTH_FAILURE]) + string(methods) + boolean(partial))

    def welcome(self) -> None:
        self.send(bytes([wire.USERAUTH_SUCCESS]))

    def login(self) -> "RawServed":
        """Whatever credential comes is right, except none."""
        self.take_service()
        while True:
            _, method, rest = self.take_request()
            if method == "none":
                self.refuse_login()
            elif method == "publickey" and not rest.boolean():
                self.send(bytes([wire.PK_OK]) + string(rest.string()) + string(rest.string()))
            else:
                self.welcome()
                return self

    def take_open(self) -> tuple[int, str, Reader]:
        """The next CHANNEL_OPEN: the client's number, the kind, the rest."""
        message = self.until(wire.CHANNEL_OPEN)
        kind, number = message.string().decode(), message.u32()
        message.u32(), message.u32()
        return number, kind, message

    def confirm(self, number: int, ours: int = 0, window: int = WINDOW, packet: int = PACKET) -> None:
        self.send(bytes([wire.OPEN_CONFIRMATION]) + u32(number) + u32(ours) + u32(window) + u32(packet))

    def take_program(self, number: int) -> str:
        """Says yes to requests of the channel until one has started a program; which one."""
        while True:
            message = self.until(wire.CHANNEL_REQUEST)
            message.u32()
            name, reply = message.string().decode(), message.boolean()
            if reply:
                self.send(bytes([wire.CHANNEL_SUCCESS]) + u32(number))
            if name in ("shell", "exec", "subsystem"):
                return name

    def session(self) -> int:
        """A session with a running program; the client's number of the channel."""
        number, kind, _ = self.take_open()
        assert kind == "session"
        self.confirm(number)
        self.take_program(number)
        return number

    def data(self, number: int, data: bytes) -> None:
        self.send(bytes([wire.CHANNEL_DATA]) + u32(number) + string(data))

    def tell(self, number: int, request: str, rest: bytes = b"", reply: bool = False) -> None:
        self.send(bytes([wire.CHANNEL_REQUEST]) + u32(number) + string(request) + boolean(reply) + rest)

    def finish(self, number: int, status: int = 0) -> None:
        """exit-status, EOF, CLOSE."""
        self.tell(number, "exit-status", u32(status))
        self.send_all(bytes([wire.CHANNEL_EOF]) + u32(number), bytes([wire.CHANNEL_CLOSE]) + u32(number))

    def drain(self) -> None:
        """To the end of the connection."""
        while True:
            self.recv()

    def close(self) -> None:
        """As if the cable were cut; wakes who reads."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


Script = Callable[[RawServed], object]


class RawServer:
    """Plays the script with each client, in a thread of its own. A client that goes ends it; any other error fails the test."""

    def __init__(self, script: Script, key: ServerKey, address: str = "127.0.0.1", port: int = 0) -> None:
        self.script, self.key = script, key
        self.board = Board()
        self.served: list[RawServed] = []
        self.ends: list[Exception | None] = []  # of the scripts
        self._listener = socket.create_server((address, port), backlog=64)
        self.address, self.port = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def known_hosts(self) -> str:
        return host_line(self.address, self.port, self.key.public)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            served = RawServed(peer, self.key)
            with self.board:
                self.served.append(served)
            threading.Thread(target=self._play, args=(served,), daemon=True).start()

    def _play(self, served: RawServed) -> None:
        end: Exception | None = None
        try:
            self.script(served)
        except (Closed, Disconnected, OSError) as gone:
            end = gone
        except Exception as error:  # told by check()
            end = error
        served.close()
        with self.board:
            self.ends.append(end)

    def wait_served(self, count: int = 1) -> RawServed:
        """The count-th connection."""
        self.board.wait(lambda: len(self.served) >= count, f"{count} connections at the raw server")
        return self.served[count - 1]

    def wait_ends(self, count: int = 1) -> None:
        self.board.wait(lambda: len(self.ends) >= count, f"{count} ended connections at the raw server")
        self.check()

    def check(self) -> None:
        for end in self.ends:
            if end is not None and not isinstance(end, (Closed, Disconnected, OSError)):
                raise AssertionError("the script of the raw server failed") from end

    def close(self) -> None:
        try:  # wakes accept()
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        for served in self.served:
            served.close()
        self.check()


def raw_hop(server: RawServer, **fields: Any) -> Any:
    """In answers; any password is right."""
    return hop(server.address, server.port, server.known_hosts, **{"password": "x", **fields})
