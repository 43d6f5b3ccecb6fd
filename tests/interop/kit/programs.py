"""Clients that are programs of ours: Go's x/crypto/ssh and Rust's russh. They take the same flags and print one JSON line."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from abc import abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest

from .client import CHACHA, CTR, CURVE25519, ECDSA, ED25519, ETM, GCM, GROUPS, JOB_S, MLKEM, NIST, PASSWORD, PLAIN, RSA
from .client import Client, Job, Outcome, Server

SOURCES = Path(__file__).resolve().parents[1]


def cache() -> Path:
    """Outside the tree, as for libssh's tarball: a fresh clone need not compile a hundred crates again."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("PARLEY_CACHE") or Path(home) / "parley") / "interop"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def version_of(program: str) -> tuple[int, ...]:
    """(1, 26, 8) from `go version` or `cargo version`; empty if it is not there."""
    if not shutil.which(program):
        return ()
    told = subprocess.run([program, "version"], cwd="/", env=tool_env(), capture_output=True, text=True).stdout
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", told)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def tool_env() -> dict[str, str]:
    """The installed toolchain as it is: none is downloaded for the tests."""
    return os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}


@contextmanager
def alone(name: str) -> Iterator[None]:
    """One build at a time, whichever process of the test run comes first."""
    with (cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class BuiltClient(Client):
    """Compiled once per state of its sources, where the toolchain is new enough for its libraries."""

    tool: str
    needs: tuple[str, str]  # the file that says which toolchain, and the pattern of the line
    fetch: tuple[str, ...]  # arguments of the tool
    chooses = frozenset({"kex", "cipher", "mac", "hostkey"})
    rekeys = True
    asks_globals = True
    _program: Path | None = None
    _lacks = ""  # why there is none

    @abstractmethod
    def build(self, out: Path) -> None:
        """Compiles to this file."""

    @property
    def sources(self) -> Path:
        return SOURCES / self.name

    def check(self) -> None:
        kind = type(self)
        if kind._lacks:
            pytest.skip(kind._lacks)
        if kind._program is None:
            try:
                self._need_toolchain()
                kind._program = self._built()
            except pytest.skip.Exception as skip:
                kind._lacks = str(skip)
                raise

    def _need_toolchain(self) -> None:
        file, pattern = self.needs
        line = re.search(pattern, (self.sources / file).read_text(), re.MULTILINE)
        assert line, f"{file} does not say which {self.tool} it needs"
        has = version_of(self.tool)
        if has < tuple(int(part) for part in line[1].split(".")):
            there = ".".join(map(str, has)) if has else "none"
            pytest.skip(f"{self.tool} {line[1]} or newer is needed, here is {there}")

    def _built(self) -> Path:
        state = hashlib.sha256()
        for file in sorted(self.sources.rglob("*")):
            if file.is_file() and file.name != "Cargo.lock":
                state.update(f"{file.relative_to(self.sources)}\0".encode() + file.read_bytes())
        out = cache() / f"{self.name}-client-{state.hexdigest()[:16]}"
        with alone(self.name):
            if not out.exists():
                fetched = self.do(*self.fetch)
                if fetched.returncode != 0:
                    pytest.skip(f"the packages of {self.name} cannot be fetched: {fetched.stderr.strip()[:300]}")
                self.build(out)
        return out

    def do(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Runs the tool; no time limit of ours, as the test run has its own."""
        return subprocess.run(
            [self.tool, *args], cwd=self.sources, env=tool_env(), stdin=subprocess.DEVNULL, capture_output=True, text=True
        )

    def must(self, *args: str) -> None:
        done = self.do(*args)
        assert done.returncode == 0, done.stderr[-4000:]

    @abstractmethod
    def switch(self, name: str) -> list[str]:
        """A flag without a value."""

    def flags(self, server: Server, job: Job) -> list[str]:
        flags = ["--port", str(server.port), "--user", job.user]
        flags += ["--key", str(job.key.path)] if job.key else ["--password", PASSWORD]
        flags += ["--mode", "shell"] if job.command is None else ["--command", job.command]
        if job.stdin:
            flags += ["--input", str(self.file("stdin", job.stdin))]
        if job.pty:
            flags += self.switch("pty")
        if job.rekey:
            flags += ["--rekey", str(job.rekey)]
        if job.globals:
            flags += ["--globals", str(job.globals)]
        for kind, name in job.algorithms.wanted().items():
            flags += [f"--{kind}", name]
        return flags

    def see(self, server: Server, job: Job, *more: str) -> dict:
        """The JSON line of a run."""
        assert self._program, "check() comes first"
        ran = subprocess.run(
            [str(self._program), *self.flags(server, job), *more],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=JOB_S,
        )
        assert ran.returncode == 0 and ran.stdout, f"{self.name}: {ran.stderr[-4000:]}"
        seen = json.loads(ran.stdout)
        assert not seen.get("error"), f"{self.name}: {seen['error']}\n{seen}"
        return seen

    def run(self, server: Server, job: Job) -> Outcome:
        seen = self.see(server, job)
        assert seen["host_key"] in [key.fingerprint for key in server.host_keys], seen
        return Outcome(
            status=seen["exit_status"],
            out=seen["stdout"].encode(),
            err=seen["stderr"],
            size=seen["stdout_bytes"],
            sha256=seen["stdout_sha256"],
            key_exchanges=seen["key_exchanges"],
            global_replies=seen.get("global_replies") or [],
        )


class Go(BuiltClient):
    name = "go"
    tool = "go"
    needs = ("go.mod", r"^go ([\d.]+)$")
    fetch = ("mod", "download")
    supports = {
        "kex": MLKEM + CURVE25519 + NIST + GROUPS,
        "cipher": CHACHA + GCM + CTR,
        "mac": ETM + PLAIN,
        "hostkey": ED25519 + ECDSA + RSA,
        "userkey": ED25519 + ECDSA + RSA,
    }

    def flags(self, server: Server, job: Job) -> list[str]:
        return super().flags(server, job) + (["--sig", job.signature] if job.signature else [])

    def switch(self, name: str) -> list[str]:
        return [f"--{name}"]

    def build(self, out: Path) -> None:
        # The next run takes any file of this name for a whole one.
        part = out.with_suffix(".part")
        self.must("build", "-trimpath", "-o", str(part), ".")
        part.rename(out)


class Rust(BuiltClient):
    name = "rust"
    tool = "cargo"
    needs = ("Cargo.toml", r'^rust-version = "([\d.]+)"$')
    # Without a Cargo.lock, which would name a registry: Cargo.toml pins what we use directly, the rest is resolved at build.
    fetch = ("fetch",)
    compresses = True
    supports = {
        "kex": MLKEM + CURVE25519 + NIST + GROUPS,
        "cipher": CHACHA + GCM + CTR,
        "mac": ETM + PLAIN,
        "hostkey": ED25519 + ECDSA + RSA,
        "userkey": ED25519 + ECDSA + RSA[:1],
    }

    def switch(self, name: str) -> list[str]:
        return [f"--{name}", "yes"]

    def build(self, out: Path) -> None:
        target = cache() / "rust-target"
        built = self.do("build", "--release", "--offline", "--target-dir", str(target))
        if built.returncode != 0:
            pytest.skip(f"{self.name} does not build with today's packages: {built.stderr.strip()[-300:]}")
        part = out.with_suffix(".part")
        shutil.copy2(target / "release" / "parley-interop", part)
        part.rename(out)
