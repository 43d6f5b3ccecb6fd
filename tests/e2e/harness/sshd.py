"""OpenSSH's sshd on loopback, in a private directory and on a private port: what the daemon goes on to as a client."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

from .answers import hop, me
from .daemon import children_of, clean_env
from .keys import Key
from .wait import PATIENCE_S, Board, poll

SSHD = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/bin:/bin")
SFTP_SERVER = "/usr/lib/openssh/sftp-server"

# The first of two equal settings holds, so a test's own lines come before these. SHLVL: bash would read ~/.bashrc for its first level.
CONFIG = """\
ListenAddress {address}
Port {port}
HostKey {host_key}
AuthorizedKeysFile {authorized}
PidFile none
StrictModes no
UsePAM {pam}
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 10000
MaxSessions 1000
UseDNS no
PrintMotd no
PrintLastLog no
AcceptEnv TEST_*
AllowStreamLocalForwarding yes
LogLevel VERBOSE
SetEnv SHLVL=2
Subsystem sftp {sftp_server}
"""


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def host_line(address: str, port: int, key: str) -> str:
    """As known_hosts has it."""
    return f"{address if port == 22 else f'[{address}]:{port}'} {key}\n"


class Sshd:
    """Lets whoever runs the tests in with `user_key`."""

    def __init__(self, folder: Path, host_key: Key, user_key: Key, *lines: str, address: str = "127.0.0.1", port: int = 0) -> None:
        assert SSHD, "sshd (openssh-server) is needed"
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its privilege separation directory
        folder.mkdir(exist_ok=True)
        self.folder, self.address, self.port = folder, address, port
        self.host_key, self.user_key = host_key, user_key
        self.board = Board()
        self.lines: list[str] = []
        for _ in range(5):  # somebody else may have taken the port meanwhile
            if self._start(lines, port or free_port(address)):
                return
        raise AssertionError(f"sshd did not start: {self.log}")

    def _start(self, lines: tuple[str, ...], port: int) -> bool:
        config = self.folder / f"sshd_config-{port}"
        words = {"address": self.address, "port": port, "host_key": self.host_key.path, "sftp_server": SFTP_SERVER}
        # Without PAM sshd finds accounts locked that have no password, and whose shadow entries it cannot read.
        words["pam"] = "no" if os.geteuid() == 0 else "yes"
        text = CONFIG.format(**words, authorized=str(self.user_key.path) + ".pub")
        config.write_text("".join(f"{line}\n" for line in lines) + text)
        self.port = port
        self.process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(config)], env=clean_env(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        self.board.wait(lambda: [line for line in self.lines if f"listening on {self.address} port {port}" in line or "(over)" in line], "sshd listens")
        return "(over)" not in self.lines

    def _read(self, process: subprocess.Popen) -> None:
        assert process.stderr
        for raw in process.stderr:
            with self.board:
                self.lines.append(raw.decode("utf-8", "replace").rstrip())
        with self.board:
            self.lines.append("(over)")

    # ---- what the daemon is told

    @property
    def known_hosts(self) -> str:
        return host_line(self.address, self.port, self.host_key.public)

    def hop(self, **fields: Any) -> Any:
        """In answers; with the key that may log in, unless another credential is named."""
        if not {"password", "private_key", "client_agent"} & set(fields):
            fields["private_key"] = self.user_key.path.read_bytes()
        return hop(self.address, self.port, fields.pop("known_hosts", self.known_hosts), **{"user": me(), **fields})

    # ---- what happens at it

    @property
    def log(self) -> str:
        with self.board:
            return "\n".join(self.lines)

    def logins(self) -> list[str]:
        """Lines of the log, one each."""
        with self.board:
            return [line for line in self.lines if line.startswith("Accepted ") and re.match(r"Accepted \S+ for ", line)]

    def wait_logins(self, count: int) -> None:
        self.board.wait(lambda: len(self.logins()) >= count, f"{count} logins at sshd")

    def connections(self) -> list[int]:
        """The process of each."""
        return children_of(self.process.pid)

    def wait_connections(self, count: int) -> list[int]:
        poll(lambda: len(self.connections()) == count, f"{count} connections at sshd: {self.log[-3000:]}")
        return self.connections()

    def stop(self) -> None:
        """With all of its connections."""
        for pid in [*self.connections(), self.process.pid] if self.process.poll() is None else []:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(PATIENCE_S)
