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

    @property
    def public(self) -> str:
        """One line as in authorized_keys, without the comment."""
        return " ".join(self.path.with_name(self.path.name + ".pub").read_text().split()[:2])

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
