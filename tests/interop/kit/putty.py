"""PuTTY's plink, as Debian has it."""

from __future__ import annotations

import re
import subprocess

from harness.keys import Key

from .client import CHACHA, CTR, CURVE25519, ECDSA, ED25519, ETM, GROUPS, NIST, PASSWORD, PLAIN, RSA, SNTRUP
from .client import CommandClient, Job, Outcome, Server


class Plink(CommandClient):
    """All that it can be told lies in a saved session; algorithms there are coarse groups, so the daemon chooses."""

    name = "plink"
    program = "plink"
    supports = {
        "kex": (SNTRUP[1],) + CURVE25519 + NIST + GROUPS,
        "cipher": CHACHA + CTR,
        "mac": (ETM[0], PLAIN[0]),
        "hostkey": ED25519 + ECDSA + RSA,
        "userkey": ED25519 + ECDSA + RSA[:1],
    }
    compresses = True
    rekeys = True

    def argv(self, server: Server, job: Job) -> list[str]:
        sessions = self.work / ".putty" / "sessions"
        sessions.mkdir(parents=True, exist_ok=True)
        (sessions / job.user).write_text(f"RekeyBytes={job.rekey or '1G'}\n")
        argv = ["plink", "-v", "-load", job.user, "-ssh", "-batch", "-noagent", "-P", str(server.port), "-l", job.user]
        for key in server.host_keys:
            argv += ["-hostkey", key.fingerprint]
        if job.key:
            argv += ["-i", self.convert(job.key)]
        else:
            argv += ["-pwfile", str(self.file("password", PASSWORD))]
        if job.pty:
            argv.append("-t")
        if job.algorithms.compression:
            argv.append("-C")
        return [*argv, "127.0.0.1", *([job.command] if job.command is not None else [])]

    def convert(self, key: Key) -> str:
        """The key in PuTTY's own form."""
        out = self.work / f"{key.path.name}.ppk"
        if not out.exists():
            command = ["puttygen", str(key.path), "-O", "private", "-o", str(out)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
        return str(out)

    def run(self, server: Server, job: Job) -> Outcome:
        outcome = super().run(server, job)
        # Its own lines and the program's come mixed on one stream: what the program wrote is looked for by the test.
        outcome.log = outcome.err
        outcome.key_exchanges = len(re.findall(r"^Doing .*key exchange", outcome.log, re.MULTILINE))
        return outcome
