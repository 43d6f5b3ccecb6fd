"""Keys and certificates that live in memory, good ones and ones that no program would make; for RawClient.

All have `algorithm`, `blob` and `sign()`, as UserKey has."""

from __future__ import annotations

import hashlib
from typing import Any, Iterable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .wire import mpint, string, u32

TOUCHED, VERIFIED = 1, 4


def _ecdsa(private: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    r, s = decode_dss_signature(private.sign(data, ec.ECDSA(hashes.SHA256())))
    return string(mpint(r) + mpint(s))


def _point(private: ec.EllipticCurvePrivateKey) -> bytes:
    return string(private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


class EcdsaKey:
    """On nistp256."""

    algorithm = b"ecdsa-sha2-nistp256"

    def __init__(self) -> None:
        self._private = ec.generate_private_key(ec.SECP256R1())
        self.blob = string(self.algorithm) + string("nistp256") + _point(self._private)

    def sign(self, data: bytes) -> bytes:
        return string(self.algorithm) + _ecdsa(self._private, data)


class RsaKey:
    """`algorithm` is what it signs with: ssh-rsa (SHA-1), rsa-sha2-256 or rsa-sha2-512."""

    HASHES = {b"ssh-rsa": hashes.SHA1, b"rsa-sha2-256": hashes.SHA256, b"rsa-sha2-512": hashes.SHA512}

    def __init__(self, algorithm: bytes = b"rsa-sha2-512", bits: int = 2048) -> None:
        self.algorithm = algorithm
        self._private = rsa.generate_private_key(65537, bits)
        numbers = self._private.public_key().public_numbers()
        self.blob = string("ssh-rsa") + mpint(numbers.e) + mpint(numbers.n)

    def sign(self, data: bytes) -> bytes:
        return string(self.algorithm) + string(self._private.sign(data, padding.PKCS1v15(), self.HASHES[self.algorithm]()))


class SecurityKey:
    """In software (OpenSSH PROTOCOL.u2f): says of itself what the test wants, and signs that."""

    def __init__(self, kind: str = "ed25519", flags: int = TOUCHED, application: bytes = b"ssh:") -> None:
        self.flags, self.application, self.counter = flags, application, 0
        if kind == "ed25519":
            self.algorithm = b"sk-ssh-ed25519@openssh.com"
            self._ed25519 = Ed25519PrivateKey.generate()
            public = string(self._ed25519.public_key().public_bytes_raw())
        else:
            self.algorithm = b"sk-ecdsa-sha2-nistp256@openssh.com"
            self._ed25519 = None
            self._ecdsa = ec.generate_private_key(ec.SECP256R1())
            public = string("nistp256") + _point(self._ecdsa)
        self.blob = string(self.algorithm) + public + string(application)

    def sign(self, data: bytes) -> bytes:
        self.counter += 1
        tail = bytes([self.flags]) + u32(self.counter)
        message = hashlib.sha256(self.application).digest() + tail + hashlib.sha256(data).digest()
        signature = string(self._ed25519.sign(message)) if self._ed25519 else _ecdsa(self._ecdsa, message)
        return string(self.algorithm) + signature + tail


class CertifiedKey:
    """A key that shows a certificate in place of its own blob."""

    def __init__(self, key: Any, algorithm: bytes, blob: bytes) -> None:
        self.key, self.algorithm, self.blob = key, algorithm, blob

    def sign(self, data: bytes) -> bytes:
        return self.key.sign(data)


# What OpenSSH's certificates permit unless told otherwise.
PERMITS = tuple((f"permit-{what}", b"") for what in ("X11-forwarding", "agent-forwarding", "port-forwarding", "pty", "user-rc"))
SUFFIX = b"-cert-v01@openssh.com"


def _options(options: Iterable[tuple[str, bytes]]) -> bytes:
    return string(b"".join(string(name) + string(data) for name, data in options))


def certify(
    key: Any,
    ca: Any,
    *,
    kind: int = 1,
    serial: int = 7,
    key_id: str = "alice's",
    principals: Iterable[str | bytes] = ("alice",),
    valid: tuple[int, int] = (0, 2**64 - 1),
    critical: Iterable[tuple[str, bytes]] = (),
    extensions: Iterable[tuple[str, bytes]] = PERMITS,
    ca_blob: bytes | None = None,
) -> CertifiedKey:
    """A certificate for `key`, signed by `ca` (who may name another as the authority). Data of options is raw."""
    type_len = int.from_bytes(key.blob[:4], "big")
    plain, fields = key.blob[4 : 4 + type_len], key.blob[4 + type_len :]
    body = string(plain.removesuffix(b"@openssh.com") + SUFFIX) + string(b"nonce" * 6) + fields
    body += serial.to_bytes(8, "big") + u32(kind) + string(key_id) + string(b"".join(map(string, principals)))
    body += valid[0].to_bytes(8, "big") + valid[1].to_bytes(8, "big")
    body += _options(critical) + _options(extensions) + string(b"") + string(ca_blob or ca.blob)
    return CertifiedKey(key, key.algorithm.removesuffix(b"@openssh.com") + SUFFIX, body + string(ca.sign(body)))
