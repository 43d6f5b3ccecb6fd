"""The face that all clients share: a job goes in, what the client saw comes out."""

from __future__ import annotations

import hashlib
import os
import pty
import subprocess
import uuid
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Iterator

import pytest

from harness.daemon import clean_env
from harness.keys import Key

PASSWORD = "open sesame"
JOB_S = 60.0
KEPT_BYTES = 64 * 1024

CURVE25519 = ("curve25519-sha256", "curve25519-sha256@libssh.org")
SNTRUP = ("sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com")
MLKEM = ("mlkem768x25519-sha256",)
NIST = ("ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521")
GROUPS = ("diffie-hellman-group16-sha512", "diffie-hellman-group14-sha256")
CHACHA = ("chacha20-poly1305@openssh.com",)
GCM = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
CTR = ("aes128-ctr", "aes192-ctr", "aes256-ctr")
ETM = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
PLAIN = ("hmac-sha2-256", "hmac-sha2-512")
ED25519 = ("ssh-ed25519",)
ECDSA = ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
RSA = ("rsa-sha2-512", "rsa-sha2-256")

# What the daemon offers, as written in server/transport/offers.c.
OFFERED = {
    "kex": MLKEM + CURVE25519 + SNTRUP + NIST + GROUPS,
    "cipher": CHACHA + GCM + CTR,
    "mac": ETM + PLAIN,
    "hostkey": ED25519 + ECDSA + RSA,
}


@dataclass(frozen=True)
class Algorithms:
    """Names by kind; an empty one leaves the choice to client and daemon."""

    kex: str = ""
    cipher: str = ""
    mac: str = ""
    hostkey: str = ""
    compression: str = ""

    def wanted(self) -> dict[str, str]:
        return {kind: name for kind, name in vars(self).items() if name}

    def of(self, kinds: frozenset[str]) -> "Algorithms":
        """Only these kinds."""
        return Algorithms(**{kind: name for kind, name in self.wanted().items() if kind in kinds})


@dataclass(frozen=True)
class Server:
    """Where a client goes, and the keys that it may meet there."""

    port: int
    host_keys: tuple[Key, ...]

    @property
    def known_hosts(self) -> str:
        return "".join(f"[127.0.0.1]:{self.port} {key.public}\n" for key in self.host_keys)


@dataclass(frozen=True)
class Job:
    """One login with one program. Without a key the password is used, without a command a shell is asked for."""

    command: str | None = None
    key: Key | None = None
    signature: str = ""  # how an RSA key signs, if the client can be told
    stdin: bytes = b""
    pty: bool = False
    linger: bool = False  # the client may wait for the program's eof before it sends its own
    algorithms: Algorithms = Algorithms()
    rekey: int = 0
    globals: int = 0
    # The daemon's log and the policy know a job by its user.
    user: str = field(default_factory=lambda: f"u{uuid.uuid4().hex[:12]}")


@dataclass
class Outcome:
    """What the client saw; None where it does not tell."""

    status: int | None
    out: bytes
    err: str
    size: int
    sha256: str
    key_exchanges: int | None = None
    global_replies: list[str] = field(default_factory=list)
    log: str = ""

    @classmethod
    def of(cls, status: int | None, out: bytes, err: str, **more: object) -> "Outcome":
        return cls(status, out[:KEPT_BYTES], err, len(out), hashlib.sha256(out).hexdigest(), **more)


class Client(ABC):
    """`chooses`: kinds of algorithms that this client can be told; for others the daemon offers only one."""

    name: str
    supports: dict[str, tuple[str, ...]]
    chooses: frozenset[str] = frozenset()
    compresses = False
    rekeys = False  # can be told after how many bytes
    rekeys_when_receiving = True  # ... and counts the bytes of both directions
    asks_globals = False

    def __init__(self, work: Path) -> None:
        self.work = work
        work.mkdir(parents=True, exist_ok=True)

    def check(self) -> None:
        """pytest.skip() where this machine lacks the client."""

    @abstractmethod
    def run(self, server: Server, job: Job) -> Outcome:
        """The job, to its end."""

    def file(self, name: str, content: bytes | str = b"", mode: int = 0o600) -> Path:
        """A private file of this job."""
        path = self.work / f"{name}-{uuid.uuid4().hex[:8]}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    def __repr__(self) -> str:
        return self.name


def need_program(name: str) -> None:
    found = any(os.access(Path(folder) / name, os.X_OK) for folder in os.get_exec_path())
    if not found:
        pytest.skip(f"{name} is not installed")


class CommandClient(Client):
    """A client that is a command with a person's standard streams."""

    program: str

    def check(self) -> None:
        need_program(self.program)

    @abstractmethod
    def argv(self, server: Server, job: Job) -> list[str]: ...

    def env(self, job: Job) -> dict[str, str]:
        """No agent, no display, no configuration of whoever runs the tests."""
        env = clean_env({"HOME": str(self.work)})
        for name in ("SSH_AUTH_SOCK", "DISPLAY", "XDG_CONFIG_HOME"):
            env.pop(name, None)
        return env

    def split_log(self, err: str) -> tuple[str, str]:
        """Standard error of the program, and what the client itself wrote there."""
        return err, ""

    def count_key_exchanges(self, log: str) -> int | None:
        return None

    def start(self, server: Server, job: Job, stdin: object, stdout: object, stderr: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.argv(server, job), env=self.env(job), stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
        )

    @contextmanager
    def input(self, job: Job) -> Iterator[IO[bytes] | int]:
        """The job's input: a file, so that the client's pace depends on the daemon alone; or what is typed at a terminal."""
        if not job.pty:
            with self.file("stdin", job.stdin).open("rb") as file:
                yield file
            return
        keyboard, terminal = pty.openpty()
        try:
            os.write(keyboard, job.stdin)
            yield terminal
        finally:
            os.close(keyboard)
            os.close(terminal)

    def run(self, server: Server, job: Job) -> Outcome:
        with (
            self.input(job) as stdin,
            self.file("stdout").open("w+b") as stdout,
            self.file("stderr").open("w+b") as stderr,
        ):
            process = self.start(server, job, stdin, stdout, stderr)
            try:
                status = process.wait(JOB_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                status = None
            stdout.seek(0)
            stderr.seek(0)
            whole = stderr.read().decode("utf-8", "replace")
            err, log = self.split_log(whole)
            assert status is not None, f"{self.name} did not end within {JOB_S:.0f} s:\n{whole[-4000:]}"
            return Outcome.of(status, stdout.read(), err, log=log, key_exchanges=self.count_key_exchanges(log))
