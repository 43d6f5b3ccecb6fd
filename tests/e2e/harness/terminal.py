"""A client on a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import struct
import subprocess
import termios
import threading

from .wait import PATIENCE_S, Board


class Terminal:
    """Starts a program with a controlling terminal of its own and gathers what it shows."""

    def __init__(self, argv: list[str], env: dict[str, str], rows: int, columns: int) -> None:
        self.board = Board()
        self.shown = bytearray()
        self.ended = False
        self._master, slave = pty.openpty()
        self.resize(rows, columns)
        # setsid --ctty makes the slave its controlling terminal, so that SIGWINCH and ^C work as for a person.
        setsid = shutil.which("setsid")
        assert setsid, "setsid (util-linux) is needed"
        self.process = subprocess.Popen(
            [setsid, "--ctty", "--wait", *argv], env=env, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # EIO: the last program on the slave's side has gone
                data = b""
            with self.board:
                self.shown += data
                if not data:
                    self.ended = True
                    return

    def write(self, data: bytes) -> None:
        os.write(self._master, data)

    def resize(self, rows: int, columns: int) -> None:
        """The kernel tells the foreground program with SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_shown(self, text: bytes, timeout: float = PATIENCE_S) -> None:
        self.board.wait(lambda: text in self.shown, f"{text!r} on the terminal: {bytes(self.shown)!r}", timeout)

    def wait(self, timeout: float = PATIENCE_S) -> int:
        status = self.process.wait(timeout)
        self.board.wait(lambda: self.ended, "the terminal's end")
        os.close(self._master)
        return status
