"""Dropbear's dbclient, as Debian has it."""

from __future__ import annotations

import subprocess

from .client import CHACHA, CURVE25519, ECDSA, ED25519, GROUPS, NIST, PASSWORD
from .client import CommandClient, Job, Server


class Dropbear(CommandClient):
    name = "dbclient"
    program = "dbclient"
    supports = {
        "kex": CURVE25519 + NIST + (GROUPS[1],),
        "cipher": CHACHA + ("aes128-ctr", "aes256-ctr"),
        "mac": ("hmac-sha2-256",),
        "hostkey": ED25519 + ECDSA + ("rsa-sha2-256",),
        "userkey": ED25519 + ECDSA + ("rsa-sha2-256",),
    }
    chooses = frozenset({"cipher", "mac"})

    def argv(self, server: Server, job: Job) -> list[str]:
        # It knows a host by its address alone, without the port: its own check would compare different daemons' keys.
        argv = ["dbclient", "-y", "-y", "-p", str(server.port), "-l", job.user]
        if job.key:
            argv += ["-i", self.convert(job)]
        if job.algorithms.cipher:
            argv += ["-c", job.algorithms.cipher]
        if job.algorithms.mac:
            argv += ["-m", job.algorithms.mac]
        argv.append("-t" if job.pty else "-T")
        return [*argv, "127.0.0.1", *([job.command] if job.command is not None else [])]

    def env(self, job: Job) -> dict[str, str]:
        env = super().env(job)
        if job.key is None:
            env["DROPBEAR_PASSWORD"] = PASSWORD
        return env

    def convert(self, job: Job) -> str:
        """The key in Dropbear's own form."""
        assert job.key
        out = self.work / f"{job.key.path.name}-{job.user}.dropbear"
        command = ["dropbearconvert", "openssh", "dropbear", str(job.key.path), str(out)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
        return str(out)

    def split_log(self, err: str) -> tuple[str, str]:
        lines = err.splitlines(keepends=True)
        own = [line for line in lines if line.startswith("dbclient: ") or not line.strip()]
        return "".join(line for line in lines if line not in own), "".join(own)
