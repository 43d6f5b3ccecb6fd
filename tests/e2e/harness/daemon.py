"""The daemon under test: started, watched and ended by the test that uses it."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

from .contract import ROOT
from .wait import PATIENCE_S, Board

CLOSED = b"(stderr closed)"  # instead of a last line
# Any of these in the daemon's stderr fails the test that started it.
SANITIZER_WORDS = (
    "ERROR: AddressSanitizer",
    "ERROR: LeakSanitizer",
    "WARNING: ThreadSanitizer",
    "runtime error:",
    "LeakSanitizer has encountered",
)


def program() -> str:
    """PARLEYD, or the dev build."""
    return os.environ.get("PARLEYD") or str(ROOT / "build/dev/parleyd")


def clean_env(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Ours without PARLEY_* settings of whoever runs the tests."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PARLEY")}
    return env | (extra or {})


def run_once(*args: str, env: dict[str, str] | None = None, timeout: float = PATIENCE_S) -> subprocess.CompletedProcess:
    """For starts that must end by themselves: wrong settings, --check, --version."""
    return subprocess.run(
        [program(), *args],
        env=clean_env(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def parse_line(line: str) -> dict[str, str]:
    """One log line as key=value; the connection id is under "id"."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    fields = dict(word.split("=", 1) for word in words if "=" in word)
    if words and re.fullmatch(r"[0-9a-f]{32}", words[0]):
        fields["id"] = words[0]
    return fields


# All clients of a test come from one address, many at once, and fail a lot. Tests of these limits set them by flags, which win.
NO_LIMITS_ON_SOURCES = {"PARLEY_START_UP": "0", "PARLEY_PER_SOURCE_START_UP": "0", "PARLEY_PENALTIES": "off"}


class Daemon:
    """One parleyd process and all that it wrote."""

    def __init__(self, args: list[str], env: dict[str, str] | None = None, cwd: Path | None = None, before: tuple[str, ...] = ()) -> None:
        self.args = args
        self.board = Board()
        self.process = subprocess.Popen(
            [*before, program(), *args],
            env=clean_env(NO_LIMITS_ON_SOURCES | (env or {})),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert self.process.stderr
        self._stderr = self.process.stderr.fileno()
        os.set_blocking(self._stderr, False)
        self._lines: list[str] = []
        self._line = b""  # the beginning of one that has not ended yet
        self._closed = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        """Announces what comes to those who wait for it."""
        readable = select.poll()
        readable.register(self._stderr, select.POLLIN)
        while self._take():
            readable.poll()

    def _take(self) -> bool:
        """All that has been written by now, so that a test which has seen an effect finds the line that came before it."""
        with self.board.look:
            while not self._closed:
                try:
                    data = os.read(self._stderr, 1 << 16)
                except BlockingIOError:
                    return True
                if not data:
                    self._closed = True
                    data = (b"\n" if self._line else b"") + CLOSED + b"\n"
                *whole, self._line = (self._line + data).split(b"\n")
                with self.board:
                    self._lines += [line.decode("utf-8", "replace") for line in whole]
            return False

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def lines(self) -> list[str]:
        """Not a copy: to be read with board.look, where it may grow."""
        self._take()
        return self._lines

    @property
    def log(self) -> str:
        with self.board.look:
            return "\n".join(self.lines)

    # ---- the log

    def events(self, event: str, **fields: str) -> list[dict[str, str]]:
        """Log lines of this event whose fields have these values."""
        with self.board.look:
            likely = [line for line in self.lines if f"event={event}" in line and all(v in line for v in fields.values())]
        parsed = [parse_line(line) for line in likely]
        return [
            line
            for line in parsed
            if line.get("event") == event and all(line.get(k) == v for k, v in fields.items())
        ]

    def wait_event(self, event: str, count: int = 1, timeout: float = PATIENCE_S, **fields: str) -> dict[str, str]:
        """The count-th log line of this event; AssertionError if the daemon ends first."""

        def found() -> list[dict[str, str]]:
            lines = self.events(event, **fields)
            if len(lines) < count and self._closed:
                raise AssertionError(f"the daemon ended before event={event}:\n{self.log}")
            return lines[count - 1 : count]

        return self.board.wait(found, f"event={event} {fields}; log:\n{self.log[-4000:]}", timeout)[0]

    def wait_text(self, text: str, timeout: float = PATIENCE_S) -> str:
        """The first log line that holds this text."""
        return self.board.wait(
            lambda: [line for line in self.lines if text in line][:1], f"{text!r} in the log", timeout
        )[0]

    def wait_ready(self) -> "Daemon":
        self.wait_event("ready")
        return self

    @property
    def port(self) -> int:
        """Of the first listener."""
        return self.ports[0]

    @property
    def ports(self) -> list[int]:
        return [int(line["address"].rpartition(":")[2]) for line in self.events("listening")]

    # ---- the end

    def wait_exit(self, timeout: float = PATIENCE_S) -> int:
        status = self.process.wait(timeout)
        self._reader.join(timeout)
        return status

    def kill(self) -> None:
        """Only to clean up after a failure."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and all that must hold at a daemon's end."""
        assert self.process.poll() is None, f"the daemon died, status {self.process.returncode}:\n{self.log[-8000:]}"
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.wait_exit()
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon did not end after SIGTERM:\n{self.log[-8000:]}") from None
        self.check_clean()
        assert status == 0, f"exit status {status} after SIGTERM:\n{self.log[-8000:]}"

    def check_clean(self) -> None:
        for word in SANITIZER_WORDS:
            if word in self.log:
                raise AssertionError(f"{word}\n{self.log[-20000:]}")


def status_of(pid: int) -> dict[str, Any]:
    """/proc/PID/status, for memory and threads."""
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def rss_kib(pid: int) -> int:
    return int(status_of(pid)["VmRSS"].split()[0])


def is_sanitized(pid: int) -> bool:
    """Address and thread sanitizers reserve terabytes of address space, and neither memory nor limits are as usual then."""
    return int(status_of(pid)["VmPeak"].split()[0]) > 1 << 30


def children_of(pid: int) -> list[int]:
    """Direct children, by any thread."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(word) for word in (task / "children").read_text().split()]
        except FileNotFoundError:
            pass
    return found
