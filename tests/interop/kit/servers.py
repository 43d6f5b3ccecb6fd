"""Daemons for the whole run, by what they offer."""

from __future__ import annotations

from pathlib import Path

from harness.daemon import Daemon
from harness.keys import Key

from .client import Algorithms, Client, Job, Outcome, Server

MIB = 1 << 20
LOG_S = 20.0  # the client has ended: what it did is in the log at once
FLAGS = {"kex": "--kex", "cipher": "--ciphers", "mac": "--macs", "hostkey": "--host-key-algorithms"}


class Servers:
    """Started when first asked for; each checked at the end of the run."""

    def __init__(self, scratch: Path, host_keys: dict[str, Key]) -> None:
        self._scratch = scratch
        self._host_keys = host_keys
        self._daemons: dict[tuple[str, ...], tuple[Daemon, int, tuple[Key, ...]]] = {}

    def get(self, offers: Algorithms = Algorithms(), rekey: int = 0, curve: str = "nistp256") -> tuple[Daemon, Server]:
        """A daemon that offers only these algorithms. It has a key of each type; of ECDSA there can be one curve."""
        keys = tuple(self._host_keys[name] for name in ("ed25519", curve, "rsa"))
        flags = [word for kind, name in offers.wanted().items() if kind in FLAGS for word in (FLAGS[kind], name)]
        flags += ["--rekey-bytes", str(rekey)] if rekey else []
        for key in keys:
            flags += ["--host-key", str(key.path)]
        name = tuple(flags)
        if name not in self._daemons:
            always = ["--listen", "127.0.0.1:0", "--policy", f"unix:{self._scratch}/policy.sock"]
            daemon = Daemon([*always, *flags], cwd=self._scratch)
            self._daemons[name] = daemon, daemon.wait_ready().port, keys
        daemon, port, keys = self._daemons[name]
        return daemon, Server(port, keys)

    def run(self, client: Client, job: Job, rekey: int = 0) -> tuple[Outcome, dict[str, str]]:
        """The job, and what the daemon's log says about its connection: algorithms, bytes, end."""
        told = job.algorithms
        curve = told.hostkey.rpartition("-")[2] if told.hostkey.startswith("ecdsa-") else "nistp256"
        # What the client cannot be told the daemon decides.
        daemon, server = self.get(told.of(frozenset(FLAGS) - client.chooses), rekey, curve)
        outcome = client.run(server, job)
        return outcome, facts(daemon, job)

    def stop(self) -> None:
        try:
            for daemon, *_ in self._daemons.values():
                daemon.stop()
        finally:
            for daemon, *_ in self._daemons.values():
                daemon.kill()


def facts(daemon: Daemon, job: Job) -> dict[str, str]:
    """The daemon's own account of the connection on which this job's user logged in, once that is over."""
    login = daemon.wait_event("login", user=job.user, timeout=LOG_S)
    keys = daemon.wait_event("keys_exchanged", id=login["id"], timeout=LOG_S)
    algorithms = dict(word.split("=", 1) for word in keys["algorithms"].split())
    return daemon.wait_event("closed", id=login["id"], timeout=LOG_S) | algorithms
