"""The initiator's side of GSSAPI, on the system's library: for clients that do what no honest one does."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_size_t, c_uint32, c_void_p

DELEGATE, MUTUAL, INTEGRITY = 1, 2, 32
KERBEROS = bytes.fromhex("2a864886f712010202")
CONTINUE_NEEDED = 1


class _Buffer(ctypes.Structure):
    _fields_ = [("length", c_size_t), ("value", c_void_p)]

    @classmethod
    def of(cls, data: bytes) -> "_Buffer":
        return cls(len(data), ctypes.cast(c_char_p(data), c_void_p))

    def take(self) -> bytes:
        return ctypes.string_at(self.value, self.length) if self.length else b""


class _Oid(ctypes.Structure):
    _fields_ = [("length", c_uint32), ("elements", c_void_p)]


class Initiator:
    """One context, with the tickets that KRB5CCNAME names."""

    def __init__(self, service: str) -> None:
        self._library = ctypes.CDLL("libgssapi_krb5.so.2")
        self._context = c_void_p()
        self._name = c_void_p()
        self._kerberos = _Oid(len(KERBEROS), ctypes.cast(c_char_p(KERBEROS), c_void_p))
        kind = POINTER(_Oid).in_dll(self._library, "GSS_C_NT_HOSTBASED_SERVICE")
        self._call("gss_import_name", byref(_Buffer.of(service.encode())), kind, byref(self._name))

    def _call(self, function: str, *args: object) -> int:
        minor = c_uint32()
        call = getattr(self._library, function)
        call.restype = c_uint32
        major = call(byref(minor), *args)
        assert major & 0xFFFF0000 == 0, f"{function}: {major:#x} {minor.value}"
        return major

    def token(self, flags: int = MUTUAL | INTEGRITY, received: bytes = b"") -> tuple[bytes, bool]:
        """The next token, and whether more must come."""
        out, got = _Buffer(), c_uint32()
        major = self._call(
            "gss_init_sec_context", None, byref(self._context), self._name, byref(self._kerberos), c_uint32(flags),
            c_uint32(0), None, byref(_Buffer.of(received)), None, byref(out), byref(got), None,
        )  # fmt: skip
        return out.take(), bool(major & CONTINUE_NEEDED)

    def mic(self, data: bytes) -> bytes:
        out = _Buffer()
        self._call("gss_get_mic", self._context, c_uint32(0), byref(_Buffer.of(data)), byref(out))
        return out.take()
