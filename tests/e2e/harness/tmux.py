"""A real terminal with a screen that can be looked at: tmux, on a private server."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from .wait import PATIENCE_S, poll

TMUX = shutil.which("tmux")


class Tmux:
    """One window that runs one command."""

    def __init__(self, folder: Path, argv: list[str], env: dict[str, str], columns: int = 80, rows: int = 24) -> None:
        assert TMUX
        self._base = [TMUX, "-S", str(folder / "tmux"), "-f", "/dev/null"]
        self._env = {**env, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "SHELL": "/bin/sh"}
        # tmux does not always notice that a pane's command has ended: it says so itself, and stays.
        command = " ".join(shlex.quote(word) for word in argv) + "; echo \"[ended: $?]\"; exec cat"
        self._run("new-session", "-d", "-x", str(columns), "-y", str(rows), command)
        self._run("set-option", "-g", "window-size", "manual")

    def _run(self, *args: str) -> str:
        done = subprocess.run([*self._base, *args], env=self._env, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, f"tmux {args}: {done.stderr}"
        return done.stdout

    def keys(self, *names: str) -> None:
        """Keys by tmux's names ("Enter", "C-c")."""
        self._run("send-keys", *names)

    def type(self, text: str) -> None:
        """Text, then Enter."""
        self._run("send-keys", "-l", text)
        self._run("send-keys", "Enter")

    def resize(self, columns: int, rows: int) -> None:
        self._run("resize-window", "-x", str(columns), "-y", str(rows))

    @property
    def screen(self) -> str:
        return self._run("capture-pane", "-p")

    def wait(self, text: str) -> str:
        """Until the screen shows it."""
        try:
            return poll(lambda: self.screen if text in self.screen else "", f"{text!r}", every=0.05)
        except AssertionError:
            raise AssertionError(f"{text!r} is not on the screen:\n{self.screen}") from None

    def wait_line(self, line: str) -> None:
        """Until a whole line of the screen is this."""
        try:
            poll(lambda: line in [row.rstrip() for row in self.screen.splitlines()], f"{line!r}", every=0.05)
        except AssertionError:
            raise AssertionError(f"no line {line!r} on the screen:\n{self.screen}") from None

    def wait_gone(self, text: str) -> None:
        try:
            poll(lambda: text not in self.screen, f"{text!r} is gone", every=0.05)
        except AssertionError:
            raise AssertionError(f"{text!r} is still on the screen:\n{self.screen}") from None

    def close(self) -> None:
        subprocess.run([*self._base, "kill-server"], env=self._env, capture_output=True, timeout=PATIENCE_S)

    def wait_ended(self) -> int:
        """The exit status of the command."""
        return int(self.wait("[ended: ").partition("[ended: ")[2].partition("]")[0])
