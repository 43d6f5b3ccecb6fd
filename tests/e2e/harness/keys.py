"""Keys made by ssh-keygen when the tests run: none is kept in the repository."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Key:
    """A private key file and its public half."""

    path: Path

    def _line(self, suffix: str) -> str:
        return " ".join(self.path.with_name(self.path.name + suffix).read_text().split()[:2])

    @property
    def public(self) -> str:
        """One line as in authorized_keys, without the comment."""
        return self._line(".pub")

    @property
    def certificate(self) -> bytes:
        """The blob of the certificate that certify() made last."""
        return base64.b64decode(self._line("-cert.pub").split()[1])

    @property
    def kind(self) -> str:
        return self.public.split()[0]

    @property
    def blob(self) -> bytes:
        return base64.b64decode(self.public.split()[1])

    @property
    def fingerprint(self) -> str:
        out = subprocess.run(["ssh-keygen", "-lf", str(self.path)], check=True, capture_output=True, text=True)
        return out.stdout.split()[1]


def make_key(path: Path, kind: str = "ed25519", bits: int = 0) -> Key:
    size = ["-b", str(bits)] if bits else []
    command = ["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return Key(path)


def certify(key: Key, ca: Key, *options: str, principals: str | None = "alice", host: bool = False, valid: str = "always:forever") -> Key:
    """Has `ca` sign a certificate for `key`, where ssh looks for it. `options` as ssh-keygen takes them: "-O", "clear", "-z", "7"."""
    names = ["-n", principals] if principals is not None else []
    command = ["ssh-keygen", "-q", "-s", str(ca.path), "-I", "test", *names, *(["-h"] if host else []), "-V", valid, *options]
    subprocess.run([*command, str(key.path) + ".pub"], check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return key
