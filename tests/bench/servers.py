"""The servers that are measured: each started on loopback, and ended by pid."""

from __future__ import annotations

import ctypes
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import IO

import cpu

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Failure(Exception):
    """The bench cannot go on; the text says why."""


def deathsig() -> None:
    """In a child: goes with us."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """One program with its descendants."""

    def __init__(self, name: str, args: list[str], work: Path, env: dict[str, str] | None = None) -> None:
        self.name = name
        self.log = work / f"{name}.log"
        self.group = cpu.new_group(name)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PARLEY")}
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                args,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean | (env or {}),
                preexec_fn=self._prepare,
            )
        self.group.root_pid = self.popen.pid

    def _prepare(self) -> None:
        deathsig()
        self.group.enter()

    def check(self) -> None:
        if self.popen.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise Failure(f"{self.name} ended with status {self.popen.returncode}:\n{tail}")

    def stop(self) -> None:
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(15)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        self.group.close()


class Server:
    """Something that SSH clients can log in to. `commands`: what its exec request for a kind of work is."""

    name = ""
    commands: dict[str, str] = {}
    programs: dict[str, str] = {}  # likewise for real programs; empty: it runs none
    forwards = True

    def __init__(self, work: Path, keys: "Keys") -> None:
        self.work = work
        self.keys = keys
        self.port = 0
        self.process: Process | None = None

    def args(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        self.port = free_port()
        self.process = Process(self.name, self.args(), self.work)
        self.await_port()

    def await_port(self) -> None:
        for _ in range(300):
            self.process.check()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise Failure(f"{self.name} does not listen")

    def command(self, kind: str, count: int = 0) -> str:
        return self.commands[kind].format(count)

    def seconds(self) -> float:
        return self.process.group.seconds()

    def memory(self) -> tuple[int, int]:
        return self.process.group.memory()

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
        self.process = None

    def version(self) -> str:
        return self.name


class Keys:
    """A host key and a user's key, made for this run."""

    def __init__(self, work: Path) -> None:
        self.user = getpass.getuser()
        self.host_key = work / "host_key"
        self.user_key = work / "user_key"
        for path in (self.host_key, self.user_key):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        self.authorized = self.user_key.with_suffix(".pub")


class Parley(Server):
    name = "parleyd"
    commands = {"true": "true", "source": "source {}", "sink": "sink", "echo": "echo"}
    programs = {"down": "run head -c {} /dev/zero", "up": "run cat >/dev/null", "true": "run true"}

    def __init__(self, work: Path, keys: Keys, build: Path, extra: list[str]) -> None:
        super().__init__(work, keys)
        self.build = build
        self.extra = extra
        self.policy: Process | None = None
        self.policy_address = f"unix:{work}/policy.sock"

    def args(self) -> list[str]:
        return [
            str(self.build / "parleyd"),
            f"--listen=127.0.0.1:{self.port}",
            f"--host-key={self.keys.host_key}",
            f"--policy={self.policy_address}",
            *("--start-up=0", "--per-source-start-up=0", "--penalties=off"),  # as sshd below
            *self.extra,
        ]

    def start(self) -> None:
        program = self.build / "bench/parley-bench-policy"
        keys = [str(self.keys.user_key), str(self.keys.host_key.with_suffix(".pub"))]
        self.policy = Process("policy", [str(program), self.policy_address, *keys], self.work)
        for _ in range(200):
            self.policy.check()
            if (self.work / "policy.sock").exists():
                break
            time.sleep(0.02)
        super().start()

    def stop(self) -> None:
        super().stop()
        if self.policy is not None:
            self.policy.stop()
        self.policy = None

    def version(self) -> str:
        out = subprocess.run([str(self.build / "parleyd"), "--version"], capture_output=True, text=True)
        return out.stdout.splitlines()[0] if out.stdout else self.name


# SHLVL: bash would read ~/.bashrc for its first level, and that is not sshd's time.
SSHD_CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {host_key}
AuthorizedKeysFile {authorized}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 10000
UseDNS no
PrintMotd no
PrintLastLog no
SetEnv SHLVL=2
"""


class Sshd(Server):
    name = "sshd"
    commands = {"true": "true", "source": "head -c {} /dev/zero", "sink": "cat >/dev/null", "echo": "cat"}
    programs = {"down": commands["source"], "up": commands["sink"], "true": "true"}

    def config(self) -> str:
        text = SSHD_CONFIG.format(port=self.port, host_key=self.keys.host_key, authorized=self.keys.authorized)
        return text + ("PerSourcePenalties no\n" if self.release() >= (9, 8) else "")

    def args(self) -> list[str]:
        program = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if program is None:
            raise Failure("sshd is missing: apt-get install openssh-server")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its privilege separation directory
        config = self.work / f"{self.name}_config"
        config.write_text(self.config())
        return [program, "-D", "-e", "-f", str(config)]

    def release(self) -> tuple[int, int]:
        found = re.search(r"OpenSSH_(\d+)\.(\d+)", self.version())
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def version(self) -> str:
        out = subprocess.run(["ssh", "-V"], capture_output=True, text=True)
        return out.stderr.split(",")[0].strip()


class Asyncssh(Server):
    name = "asyncssh"
    commands = Parley.commands
    forwards = False  # its server here does sessions only

    def python(self) -> str:
        return str(ROOT / ".venv/bin/python")

    def args(self) -> list[str]:
        script = str(HERE / "asyncssh_server.py")
        return [self.python(), script, str(self.port), str(self.keys.host_key), str(self.keys.authorized)]

    def version(self) -> str:
        code = "import asyncssh, platform; print('asyncssh', asyncssh.__version__, 'on Python', platform.python_version())"
        out = subprocess.run([self.python(), "-c", code], capture_output=True, text=True)
        return out.stdout.strip() or "asyncssh"


class Peer:
    """Where forwarded connections end; its CPU is nobody's."""

    def __init__(self, size: int) -> None:
        self.popen = subprocess.Popen(
            [str(ROOT / ".venv/bin/python"), "-B", str(HERE / "peer.py"), str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=deathsig,
        )
        self.ports = dict(zip(("down", "up"), map(int, self.popen.stdout.readline().split())))

    def stop(self) -> None:
        self.popen.stdin.close()
        self.popen.stdout.close()
        self.popen.wait(15)


class Load:
    """One run of the load generator; `events` wait for a line of ours."""

    def __init__(self, build: Path, server: Server, mode: str, **options: object) -> None:
        args = [str(build / "bench/parley-bench-load"), mode, f"--port={server.port}"]
        args += [f"--user={server.keys.user}", f"--key={server.keys.user_key}"]
        args += [f"--{name}={value}" for name, value in options.items()]
        self.what = f"{mode} on {server.name}"
        self.popen = subprocess.Popen(
            args,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=deathsig,
        )

    def line(self) -> bytes:
        out: IO[bytes] = self.popen.stdout
        if line := out.readline():
            return line
        raise Failure(f"the load generator ended: {self.what}")

    def go(self) -> None:
        self.popen.stdin.write(b"go\n")
        self.popen.stdin.flush()

    def finish(self) -> None:
        self.popen.stdin.close()
        status = self.popen.wait(120)
        self.popen.stdout.close()
        if status != 0:
            raise Failure(f"the load generator failed: {self.what}")

    def end(self) -> None:
        """Whatever it is doing."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        self.popen.stdin.close()
        self.popen.stdout.close()
