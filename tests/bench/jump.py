"""Bulk data through a jump host: the server that is measured, and the sshd behind it, which is not."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from servers import Failure, Keys, Server, Sshd, deathsig

SSH_CONFIG = """\
Host jump
  Port {jump}
  User {jump_user}
Host target
  Port {target}
  User {user}
  {proxy}
Host *
  HostName 127.0.0.1
  Ciphers {cipher}
  KexAlgorithms curve25519-sha256
  IdentityFile {key}
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking no
  BatchMode yes
  LogLevel ERROR
"""


class Target(Sshd):
    """The server behind the jump, with one cipher."""

    def __init__(self, work: Path, keys: Keys, cipher: str) -> None:
        super().__init__(work, keys)
        self.name = f"target-{cipher.partition('@')[0]}"
        self.cipher = cipher

    def config(self) -> str:
        return f"Ciphers {self.cipher}\n" + super().config()


class Way:
    """A login of OpenSSH's client to the target's programs, through the server: over parleyd's UpstreamEndpoint, or with
    `ssh -J` through sshd. What logins cost is over when it stands."""

    def __init__(self, server: Server, target: Target) -> None:
        self.work = server.work / f"way-{server.name}-{target.name}"
        self.work.mkdir(exist_ok=True)
        self.control = self.work / "mux"
        ours = server.name == "parleyd"
        self.host = "jump" if ours else "target"
        self.what = f"{target.name} through {server.name}"
        self.config = self.work / "config"
        self.config.write_text(
            SSH_CONFIG.format(
                jump=server.port,
                # The bench's policy carries sessions of a user named so on to this port.
                jump_user=f"via-{target.port}" if ours else server.keys.user,
                target=target.port,
                user=server.keys.user,
                proxy="" if ours else "ProxyJump jump",
                cipher=target.cipher,
                key=server.keys.user_key,
            )
        )
        self.master = self._ssh("-M", "-N", stdin=subprocess.DEVNULL)
        for _ in range(400):
            if self.control.exists():
                break
            if self.master.poll() is not None:
                raise Failure(f"ssh cannot log in to {self.what}")
            time.sleep(0.02)
        # Keeps the connection behind the jump, which goes with its last session.
        self.held = self._ssh(self.host, "echo up; cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.held.stdout.readline() != b"up\n":
            raise Failure(f"no session on {self.what}")

    def _ssh(self, *args: str, **how: object) -> subprocess.Popen:
        host = () if self.host in args else (self.host,)
        return subprocess.Popen(["ssh", "-F", str(self.config), "-S", str(self.control), *args, *host], preexec_fn=deathsig, **how)

    def move(self, direction: str, size: int, forward: int | None = None) -> float:
        """So many bytes, by a program of the target's or (-W) from and to a port that it connects to; the seconds it took."""
        args = ("-W", f"127.0.0.1:{forward}", self.host) if forward else (self.host, Target.programs[direction].format(size))
        started = time.monotonic()
        if direction == "down":
            program = self._ssh(*args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            count = subprocess.run(["wc", "-c"], stdin=program.stdout, stdout=subprocess.PIPE, check=True).stdout
            program.stdout.close()
        else:
            source = subprocess.Popen(["head", "-c", str(size), "/dev/zero"], stdout=subprocess.PIPE)
            program = self._ssh(*args, stdin=source.stdout, stdout=subprocess.DEVNULL)
            source.stdout.close()
            count = str(size) if source.wait(300) == 0 else "0"
        if program.wait(300) != 0 or int(count) != size:
            raise Failure(f"bytes were lost on {self.what}")
        return time.monotonic() - started

    def close(self) -> None:
        self.held.stdin.close()
        self.held.stdout.close()
        for program in (self.held, self.master):
            program.terminate()
            try:
                program.wait(5)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
