"""Clients that misbehave on purpose: at any stage of a connection, at any byte, at any speed."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass

from harness import wire
from harness.rawclient import RawClient
from harness.rawssh import KEX, CIPHER, Closed, Disconnected
from harness.wire import Reader, boolean, string, u32

UNASSIGNED = 191  # nobody's message number: its UNIMPLEMENTED shows that all before it has been handled
UNASKED = (wire.KEXINIT, wire.GLOBAL_REQUEST)  # what the server sends by itself at some stages
KEX_STRICT = "kex-strict-c-v00@openssh.com"


@dataclass
class Reaction:
    """What the server did about a message."""

    answers: list[Reader]
    unimplemented: bool = False
    end: Disconnected | Closed | None = None

    @property
    def outcome(self) -> str:
        if self.end:
            return "end"
        if self.unimplemented:
            return "unimplemented"
        return "answered" if any(answer.type not in UNASKED for answer in self.answers) else "silent"

    def __str__(self) -> str:
        return f"{self.outcome} {self.end or ''} {self.answers or ''}"


class FaultClient(RawClient):
    """Counts its packets, so that an UNIMPLEMENTED can be told to be about this one or that one."""

    def __init__(self, port: int, *, strict: bool = False, **how: object) -> None:
        self.strict = strict
        self.packets = 0
        super().__init__(port, **how)

    def write(self, data: bytes) -> None:
        """All bytes pass here but those of the version line that the constructor sends."""
        self.socket.sendall(data)

    def _kexinit(self) -> bytes:
        names = f"{KEX},{KEX_STRICT}" if self.strict else KEX
        lists = [names, "ssh-ed25519", CIPHER, CIPHER, "hmac-sha2-256", "hmac-sha2-256", "none", "none", "", ""]
        return bytes([wire.KEXINIT]) + os.urandom(16) + b"".join(map(string, lists)) + boolean(False) + u32(0)

    def pack(self, payload: bytes) -> bytes:
        packed = super().pack(payload)
        self.packets += 1
        if self.strict and payload[0] == wire.NEWKEYS:
            self.packets = 0
        return packed

    def send(self, payload: bytes) -> None:
        try:
            self.write(self.pack(payload))
        except (BrokenPipeError, ConnectionResetError):
            pass  # what the server had to say about it is still to be read

    def rest(self) -> list[bytes]:
        """Everything up to the end of the connection, as lines; of a version line only what no release changes."""
        data = self._buffer
        try:
            while piece := self.socket.recv(1 << 16):
                data += piece
        except ConnectionResetError:
            pass
        lines = [line.rstrip(b"\r") for line in data.split(b"\n") if line]
        return [line[:7] if line.startswith(b"SSH-2.0-") else line for line in lines]

    # ---- stages

    def greet(self, version: bytes = b"SSH-2.0-Fault_1.0") -> "FaultClient":
        """For clients made with keys=False: the version lines."""
        self.client_version = version
        self.write(version + b"\r\n")
        self.server_version = self.read_line()
        return self

    def half_keyed(self) -> "FaultClient":
        """The server has sent its NEWKEYS and writes under the new keys; we have not."""
        self.take_new_keys(*self.agree())
        return self

    # ---- reactions

    def react(self, *payloads: bytes) -> Reaction:
        """Sends, and gathers everything up to the answer to one more message that has none."""
        about = {self.packets + i for i in range(len(payloads))}
        self.send_together(*payloads, bytes([UNASSIGNED]))
        last = self.packets - 1
        reaction = Reaction([])
        try:
            while True:
                message = self.recv()
                if message.type != wire.UNIMPLEMENTED:
                    reaction.answers.append(message)
                    continue
                sequence = message.u32()
                message.end()
                if sequence == last:
                    return reaction
                assert sequence in about, f"UNIMPLEMENTED about {sequence}, sent {sorted(about)}"
                reaction.unimplemented = True
        except (Disconnected, Closed) as end:
            reaction.end = end
            self.close()
        return reaction

    def send_together(self, *payloads: bytes) -> None:
        try:
            self.write(b"".join([self.pack(payload) for payload in payloads]))
        except (BrokenPipeError, ConnectionResetError):
            pass

    # ---- broken packets

    def seal_body(self, body: bytes, length: int | None = None) -> bytes:
        """An encrypted packet around any body: padding length, payload and padding as given."""
        field = u32(len(body) if length is None else length)
        return field + self._out.seal(body, field)

    def reset(self) -> None:
        """Closes with RST: as if the client's machine had gone."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Cut(Exception):
    """The byte at which the line is cut has been reached."""


class CutClient(FaultClient):
    """Its line is cut after so many bytes; without a number it only counts them."""

    def __init__(self, port: int, after: int | None = None) -> None:
        self.after = after
        self.written = 0
        super().__init__(port, keys=False)

    def write(self, data: bytes) -> None:
        left = len(data) if self.after is None else self.after - self.written
        if left < len(data):
            self.socket.sendall(data[:left])
            raise Cut
        super().write(data)
        self.written += len(data)


class TrickleClient(FaultClient):
    """One byte a segment in both directions."""

    def write(self, data: bytes) -> None:
        for byte in data:
            self.socket.send(bytes([byte]))

    def _fill(self) -> None:
        if not (data := self.socket.recv(1)):
            raise Closed("the server closed the connection")
        self._buffer += data


class Bystander:
    """An honest client beside the misbehaving ones: its keystrokes must come back whatever they do."""

    def __init__(self, port: int) -> None:
        self.client = RawClient(port).login("bystander")
        self.channel = self.client.execute("cat")
        self._count = 0
        self.type(3)

    def type(self, keys: int = 1) -> None:
        """So many keystrokes, each answered before the next."""
        for _ in range(keys):
            self._count += 1
            key = b"k%06d" % self._count
            self.client.data(self.channel, key)
            message = self.client.expect(wire.CHANNEL_DATA)
            message.u32()
            assert message.string() == key

    def close(self) -> None:
        self.client.disconnect()
