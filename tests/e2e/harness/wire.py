"""RFC 4251 data types, written and read; messages by number."""

from __future__ import annotations

import struct

DISCONNECT, IGNORE, UNIMPLEMENTED, DEBUG = 1, 2, 3, 4
SERVICE_REQUEST, SERVICE_ACCEPT, EXT_INFO = 5, 6, 7
KEXINIT, NEWKEYS, KEX_ECDH_INIT, KEX_ECDH_REPLY = 20, 21, 30, 31
USERAUTH_REQUEST, USERAUTH_FAILURE, USERAUTH_SUCCESS, USERAUTH_BANNER = 50, 51, 52, 53
PK_OK = PASSWD_CHANGEREQ = INFO_REQUEST = 60
INFO_RESPONSE = 61
GLOBAL_REQUEST, REQUEST_SUCCESS, REQUEST_FAILURE = 80, 81, 82
CHANNEL_OPEN, OPEN_CONFIRMATION, OPEN_FAILURE = 90, 91, 92
WINDOW_ADJUST, CHANNEL_DATA, EXTENDED_DATA, CHANNEL_EOF, CHANNEL_CLOSE = 93, 94, 95, 96, 97
CHANNEL_REQUEST, CHANNEL_SUCCESS, CHANNEL_FAILURE = 98, 99, 100


def u32(value: int) -> bytes:
    return struct.pack(">I", value)


def boolean(value: bool) -> bytes:
    return b"\1" if value else b"\0"


def string(value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return u32(len(data)) + data


def mpint(value: int) -> bytes:
    """Non-negative only."""
    return string(value.to_bytes(value.bit_length() // 8 + 1, "big") if value else b"")


class Reader:
    """One message: `type` and the fields behind it."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.type = message[0]
        self._at = 1

    def take(self, count: int) -> bytes:
        piece = self.message[self._at : self._at + count]
        assert len(piece) == count, f"message {self.type} is too short: {self.message!r}"
        self._at += count
        return piece

    def u8(self) -> int:
        return self.take(1)[0]

    def u32(self) -> int:
        return struct.unpack(">I", self.take(4))[0]

    def boolean(self) -> bool:
        return self.u8() != 0

    def string(self) -> bytes:
        return self.take(self.u32())

    def names(self) -> list[str]:
        text = self.string().decode()
        return text.split(",") if text else []

    def end(self) -> None:
        assert self._at == len(self.message), f"bytes left over in {self.message!r}"

    def __repr__(self) -> str:
        return f"<message {self.type}: {self.message[1:200]!r}>"


def said(reply: Reader) -> str:
    """An answer to a USERAUTH_REQUEST in words: "success", "failure publickey,password", "partial password", or its number."""
    if reply.type == USERAUTH_SUCCESS:
        return "success"
    if reply.type != USERAUTH_FAILURE:
        return str(reply.type)
    names = reply.string().decode()
    return f"{'partial' if reply.boolean() else 'failure'} {names}"
