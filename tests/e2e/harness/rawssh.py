"""A small SSH transport of our own (curve25519-sha256, ssh-ed25519, aes128-gcm), so that tests can send any message at any time."""

from __future__ import annotations

import hashlib
import os
import socket
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import wire
from .wait import PATIENCE_S
from .wire import Reader, boolean, mpint, string, u32

KEX = "curve25519-sha256"
CIPHER = "aes128-gcm@openssh.com"


class Disconnected(Exception):
    """The server sent DISCONNECT."""

    def __init__(self, code: int, reason: str, language: str) -> None:
        super().__init__(f"disconnect {code}: {reason}")
        self.code, self.reason, self.language = code, reason, language


class Closed(Exception):
    """The server closed the socket without a DISCONNECT."""


class _Gcm:
    """One direction: RFC 5647 as OpenSSH uses it (PROTOCOL section 1.6)."""

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._aead = AESGCM(key)
        self._fixed, self._count = iv[:4], struct.unpack(">Q", iv[4:12])[0]

    def _nonce(self) -> bytes:
        nonce = self._fixed + struct.pack(">Q", self._count)
        self._count = (self._count + 1) & (2**64 - 1)
        return nonce

    def seal(self, body: bytes, length: bytes) -> bytes:
        return self._aead.encrypt(self._nonce(), body, length)

    def open(self, sealed: bytes, length: bytes) -> bytes:
        return self._aead.decrypt(self._nonce(), sealed, length)


def _packet(payload: bytes, block: int, counted: int) -> bytes:
    """padding_length, payload, padding; `counted` bytes of the length field take part in the alignment."""
    padding = block - (counted + 1 + len(payload)) % block
    if padding < 4:
        padding += block
    return bytes([padding]) + payload + os.urandom(padding)


class RawTransport:
    """Connected and encrypted once made; send() and recv() move whole messages."""

    def __init__(
        self,
        port: int,
        *,
        version: bytes = b"SSH-2.0-Raw_1.0",
        timeout: float = PATIENCE_S,
        keys: bool = True,
        source: str | None = None,
    ) -> None:
        """`source`: the address of loopback that it comes from, by which a policy can tell clients apart from the start."""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout, (source, 0) if source else None)
        # Two messages in a row must not wait for the acknowledgement of the first: 40 ms in each key exchange.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket_name = self.socket.getsockname()
        self._buffer = b""
        self._out: _Gcm | None = None
        self._in: _Gcm | None = None
        self._held: list[bytes] = []  # what came while keys were exchanged
        self.session_id = b""
        self.host_key = b""
        self.client_version = version
        self.server_version = b""
        if keys:
            self.socket.sendall(version + b"\r\n")
            self.server_version = self.read_line()
            self.exchange_keys()

    # ---- bytes

    def read_line(self) -> bytes:
        while b"\n" not in self._buffer:
            self._fill()
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.rstrip(b"\r")

    def _fill(self) -> None:
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed("the server closed the connection")
        self._buffer += data

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        piece, self._buffer = self._buffer[:count], self._buffer[count:]
        return piece

    # ---- packets

    def pack(self, payload: bytes) -> bytes:
        """The packet of one message, as it goes out next."""
        if self._out is None:
            body = _packet(payload, 8, 4)
            return u32(len(body)) + body
        body = _packet(payload, 16, 0)
        length = u32(len(body))
        return length + self._out.seal(body, length)

    def send(self, payload: bytes) -> None:
        self.send_all(payload)

    def send_all(self, *payloads: bytes) -> None:
        """In one write, so that the server has all before it answers the first."""
        try:
            self.socket.sendall(b"".join(self.pack(payload) for payload in payloads))
        except (BrokenPipeError, ConnectionResetError):
            pass  # what the server had to say about it is still to be read

    def _read_packet(self) -> bytes:
        length = self._take(4)
        count = struct.unpack(">I", length)[0]
        assert count <= 1 << 20, f"packet of {count} bytes"
        body = self._take(count + (16 if self._in else 0))
        if self._in:
            body = self._in.open(body, length)
        return body[1 : len(body) - body[0]]

    def recv(self) -> Reader:
        """The next message, whatever it is, but DISCONNECT raises and a rekey of the server's is carried out."""
        if self._held:
            return Reader(self._held.pop(0))
        payload = self._read_packet()
        if payload[0] == wire.KEXINIT and self.session_id:
            self.exchange_keys(payload)
            return self.recv()
        self._raise_disconnect(payload)
        return Reader(payload)

    @staticmethod
    def _raise_disconnect(payload: bytes) -> None:
        if payload[0] == wire.DISCONNECT:
            reader = Reader(payload)
            code, reason, language = reader.u32(), reader.string(), reader.string()
            reader.end()
            raise Disconnected(code, reason.decode(), language.decode())

    def close(self) -> None:
        """As if the cable were cut."""
        self.socket.close()

    # ---- keys

    def _kexinit(self) -> bytes:
        lists = [f"{KEX},ext-info-c", "ssh-ed25519", CIPHER, CIPHER, "hmac-sha2-256", "hmac-sha2-256", "none", "none", "", ""]
        return bytes([wire.KEXINIT]) + os.urandom(16) + b"".join(map(string, lists)) + boolean(False) + u32(0)

    def _until(self, wanted: int) -> bytes:
        """Reads up to this message of the key exchange, keeping others for recv()."""
        while True:
            payload = self._read_packet()
            if payload[0] == wanted:
                return payload
            self._raise_disconnect(payload)
            assert self.session_id or payload[0] in (wire.IGNORE, wire.DEBUG), f"message {payload[0]} in the first key exchange"
            self._held.append(payload)

    def agree(self, server_init: bytes | None = None) -> tuple[int, bytes]:
        """All of an exchange that comes before NEWKEYS: the shared secret and the exchange hash."""
        ours = self._kexinit()
        self.send(ours)
        theirs = server_init or self._until(wire.KEXINIT)
        private = X25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        self.send(bytes([wire.KEX_ECDH_INIT]) + string(public))
        reply = Reader(self._until(wire.KEX_ECDH_REPLY))
        host_key, server_public, signature = reader_fields(reply)
        secret = int.from_bytes(private.exchange(X25519PublicKey.from_public_bytes(server_public)), "big")
        hashed = b"".join(map(string, (self.client_version, self.server_version, ours, theirs, host_key, public, server_public)))
        exchange_hash = hashlib.sha256(hashed + mpint(secret)).digest()
        _verify(host_key, signature, exchange_hash)
        self.host_key = host_key
        self.session_id = self.session_id or exchange_hash
        return secret, exchange_hash

    def exchange_keys(self, server_init: bytes | None = None) -> None:
        """The first exchange, or another one begun by us or by the server."""
        secret, exchange_hash = self.agree(server_init)
        self.send(bytes([wire.NEWKEYS]))
        self._out = self._direction(secret, exchange_hash, b"C", b"A")
        self.take_new_keys(secret, exchange_hash)

    def take_new_keys(self, secret: int, exchange_hash: bytes) -> None:
        """The server's NEWKEYS: what it sends from here on is under the new keys."""
        self._until(wire.NEWKEYS)
        self._in = self._direction(secret, exchange_hash, b"D", b"B")

    def _direction(self, secret: int, exchange_hash: bytes, key: bytes, iv: bytes) -> _Gcm:
        def derive(letter: bytes) -> bytes:
            return hashlib.sha256(mpint(secret) + exchange_hash + letter + self.session_id).digest()

        return _Gcm(derive(key)[:16], derive(iv)[:12])


def reader_fields(reply: Reader) -> tuple[bytes, bytes, bytes]:
    fields = reply.string(), reply.string(), reply.string()
    reply.end()
    return fields


def _verify(host_key: bytes, signature: bytes, data: bytes) -> None:
    key, signed = Reader(b"\0" + host_key), Reader(b"\0" + signature)
    assert key.string() == signed.string() == b"ssh-ed25519"
    Ed25519PublicKey.from_public_bytes(key.string()).verify(signed.string(), data)
