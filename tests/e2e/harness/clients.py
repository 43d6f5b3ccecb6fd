"""The stock OpenSSH client: no configuration of the machine, no agent, no questions asked."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .daemon import clean_env
from .keys import Key
from .terminal import Terminal
from .wait import PATIENCE_S, poll


@dataclass
class Result:
    """How a client ended."""

    status: int
    out: bytes
    err: str

    def __str__(self) -> str:
        return f"status {self.status}\nout: {self.out[:2000]!r}\nerr: {self.err[:4000]}"


def terminate(process: subprocess.Popen) -> None:
    """SIGTERM until it ends: ssh looks for signals before it goes to sleep, and misses one that comes in between."""

    def ended() -> bool:
        process.terminate()
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            return False
        return True

    poll(ended, "the client's end")


class OpenSsh:
    """Runs `ssh` against one port; every process is ended with the test."""

    def __init__(self, port: int, work: Path, host_key: Key) -> None:
        self.port = port
        self.work = work
        self.host = "127.0.0.1"
        self.before: tuple[str, ...] = ()  # a command that runs ssh
        self.known_hosts = work / f"known_hosts-{port}"
        self.known_hosts.write_text(f"[127.0.0.1]:{port} {host_key.public}\n")
        self._askpass = work / "askpass"
        self._askpass.write_text('#!/bin/sh\nprintf "%s\\n" "$TEST_PASSWORD"\n')
        self._askpass.chmod(0o700)
        self._started: list[subprocess.Popen] = []

    def argv(
        self,
        command: str | None = None,
        *,
        user: str = "alice",
        key: Key | None = None,
        password: str | None = None,
        options: tuple[str, ...] = (),
    ) -> list[str]:
        """Options of the test come first: the first one wins in OpenSSH."""
        settings = [
            f"UserKnownHostsFile={self.known_hosts}",
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            f"IdentityFile={key.path if key else 'none'}",
            "NumberOfPasswordPrompts=1",
            f"BatchMode={'no' if password is not None else 'yes'}",
            "ConnectTimeout=60",
            "LogLevel=INFO",
        ]
        argv = [*self.before, "ssh", "-F", "none", "-p", str(self.port), "-l", user, *options]
        for setting in settings:
            argv += ["-o", setting]
        return [*argv, self.host, *([command] if command is not None else [])]

    def env(self, password: str | None = None, extra: dict[str, str] | None = None) -> dict[str, str]:
        env = clean_env()
        for name in [name for name in env if name.startswith("LC_") or name in ("SSH_AUTH_SOCK", "DISPLAY", "LANG")]:
            del env[name]
        if password is not None:
            env |= {"SSH_ASKPASS": str(self._askpass), "SSH_ASKPASS_REQUIRE": "force", "TEST_PASSWORD": password}
        return env | (extra or {})

    def popen(
        self,
        command: str | None = None,
        *,
        env: dict[str, str] | None = None,
        stdin: int = subprocess.PIPE,
        stdout: int = subprocess.PIPE,
        password: str | None = None,
        **how: object,
    ) -> subprocess.Popen:
        """A client to talk with; its own session, so that no terminal of ours is asked."""
        process = subprocess.Popen(
            self.argv(command, password=password, **how),
            env=self.env(password, env),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def run(self, command: str | None = None, *, stdin: bytes = b"", timeout: float = PATIENCE_S, **how: object) -> Result:
        """To its end."""
        process = self.popen(command, **how)
        try:
            out, err = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"ssh did not end: {shlex.join(process.args)}\n{out!r}\n{err!r}") from None
        return Result(process.returncode, out, err.decode("utf-8", "replace"))

    def terminal(self, command: str | None = None, *, rows: int = 24, columns: int = 80, term: str = "xterm", **how: object) -> Terminal:
        """A client whose standard streams are a terminal of that size."""
        env = how.pop("env", None) or {}
        password = how.get("password")
        terminal = Terminal(
            self.argv(command, **how), self.env(password, {"TERM": term, **env}), rows=rows, columns=columns
        )
        self._started.append(terminal.process)
        return terminal

    def close(self) -> None:
        """Ends what still runs, by process."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    try:
                        pipe.close()
                    except BrokenPipeError:
                        pass


def socket_path(folder: Path) -> Path:
    """For ControlPath; short, since a Unix socket's path is."""
    return folder / f"mux-{os.getpid()}"
