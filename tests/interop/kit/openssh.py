"""OpenSSH's ssh, as Debian has it."""

from __future__ import annotations

import re
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator

from .client import CHACHA, CTR, CURVE25519, ECDSA, ED25519, ETM, GCM, GROUPS, NIST, PASSWORD, PLAIN, RSA, SNTRUP
from .client import JOB_S, CommandClient, Job, Server

# How ssh marks its own lines; \r stands before a newline where the terminal is raw.
OWN_LINE = re.compile(r"^(debug[123]: |Authenticated to |Transferred: |Bytes per second: |OpenSSH_|Connection to )")


class OpenSsh(CommandClient):
    name = "openssh"
    program = "ssh"
    supports = {
        "kex": SNTRUP + CURVE25519 + NIST + GROUPS,
        "cipher": CHACHA + GCM + CTR,
        "mac": ETM + PLAIN,
        "hostkey": ED25519 + ECDSA + RSA,
        "userkey": ED25519 + ECDSA + RSA,
    }
    chooses = frozenset({"kex", "cipher", "mac", "hostkey"})
    compresses = True
    rekeys = True

    flags: tuple[str, ...] = ("-v",)

    def with_flags(self, *flags: str) -> "OpenSsh":
        """The same client with other flags; the first of several wins in OpenSSH."""
        other = OpenSsh(self.work)
        other.flags = (*flags, *self.flags)
        return other

    def known_hosts(self, server: Server) -> str:
        return str(self.file("known_hosts", server.known_hosts))

    def argv(self, server: Server, job: Job) -> list[str]:
        settings = {
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "IdentityFile": str(job.key.path) if job.key else "none",
            "PreferredAuthentications": "publickey" if job.key else "password",
            "NumberOfPasswordPrompts": "1",
            "BatchMode": "yes" if job.key else "no",
            "PubkeyAcceptedAlgorithms": job.signature,
            "UpdateHostKeys": "no",
            "KexAlgorithms": job.algorithms.kex,
            "Ciphers": job.algorithms.cipher,
            "MACs": job.algorithms.mac,
            "HostKeyAlgorithms": job.algorithms.hostkey,
            "Compression": "yes" if job.algorithms.compression else "no",
            "RekeyLimit": str(job.rekey) if job.rekey else "",
        }
        argv = ["ssh", "-F", "none", "-p", str(server.port), "-l", job.user, *self.flags]
        if "UserKnownHostsFile" not in " ".join(self.flags):
            settings["UserKnownHostsFile"] = self.known_hosts(server)
        if job.pty:
            argv.append("-tt")
        for name, value in settings.items():
            if value:
                argv += ["-o", f"{name}={value}"]
        return [*argv, "127.0.0.1", *([job.command] if job.command is not None else [])]

    def env(self, job: Job) -> dict[str, str]:
        env = super().env(job)
        if job.key is None:
            askpass = self.file("askpass", '#!/bin/sh\nprintf "%s\\n" "$TEST_PASSWORD"\n', 0o700)
            env |= {"SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force", "TEST_PASSWORD": PASSWORD}
        return env

    def split_log(self, err: str) -> tuple[str, str]:
        lines = err.replace("\r\n", "\n").splitlines(keepends=True)
        own = [line for line in lines if OWN_LINE.match(line)]
        return "".join(line for line in lines if not OWN_LINE.match(line)), "".join(own)

    def count_key_exchanges(self, log: str) -> int | None:
        return log.count("SSH2_MSG_NEWKEYS received")


@contextmanager
def held(client: OpenSsh, server: Server, job: Job) -> Iterator[Path]:
    """The job in the background while the test looks; the file of its log. Its program must end well afterwards."""
    log = client.file("log")
    with log.open("wb") as stderr, client.input(job) as stdin:
        process = client.start(server, job, stdin, subprocess.DEVNULL, stderr)
        try:
            yield log
            with suppress(subprocess.TimeoutExpired):
                process.wait(JOB_S)
            assert process.returncode == 0, log.read_text()[-4000:]
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
