"""--policy-exec: the daemon starts the policy itself, keeps it running, and takes it along at the end."""

from __future__ import annotations

import ast
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable

import pytest

from harness.clients import OpenSsh
from harness.daemon import Daemon, children_of, clean_env, program, run_once
from harness.keys import Key
from harness.wait import poll

PROGRAM = f"{sys.executable} {Path(__file__).parent / 'harness/policy_process.py'}"

StartExec = Callable[..., Daemon]


@pytest.fixture
def start_exec(start_daemon: Callable[..., Daemon], work: Path) -> StartExec:
    """A daemon that runs the policy itself, its sockets below a runtime directory of the test's."""

    def start(*flags: str, command: str = PROGRAM, **how: object) -> Daemon:
        (work / "run").mkdir(exist_ok=True, mode=0o700)
        env = {"XDG_RUNTIME_DIR": str(work / "run")}
        return start_daemon("--policy-exec", command, *flags, policy="", env=env, **how)

    return start


def sockets(work: Path) -> list[Path]:
    return [path for path in (work / "run").rglob("*") if path.is_socket()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def policy_pid(ssh: OpenSsh) -> int:
    result = ssh.run("pid")
    assert result.status == 0, result
    return int(result.out)


def test_it_starts_and_serves(start_exec: StartExec, connect_ssh: Callable[..., OpenSsh], work: Path) -> None:
    """Nothing listens before the policy answers; its socket is the daemon's user's alone."""
    daemon = start_exec()
    ssh = connect_ssh(daemon)
    assert policy_pid(ssh) in children_of(daemon.pid)
    paths = sockets(work)
    assert len(paths) == 1, paths
    assert stat.S_IMODE(paths[0].stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(paths[0].parent.stat().st_mode) == 0o700


def test_its_end_leaves_no_process_and_no_socket(start_exec: StartExec, connect_ssh: Callable[..., OpenSsh], work: Path) -> None:
    daemon = start_exec()
    pid = policy_pid(connect_ssh(daemon))
    daemon.stop()
    poll(lambda: not alive(pid), "the policy to be gone")
    assert list((work / "run").iterdir()) == []


def test_restart_after_a_kill(start_exec: StartExec, connect_ssh: Callable[..., OpenSsh], work: Path) -> None:
    daemon = start_exec()
    ssh = connect_ssh(daemon)
    first = policy_pid(ssh)
    os.kill(first, signal.SIGKILL)
    poll(lambda: not alive(first), "the policy to be gone")
    end = time.monotonic() + 60
    while (result := ssh.run("pid")).status != 0:
        assert time.monotonic() < end, f"no login after the restart: {result}\n{daemon.log}"
    assert int(result.out) != first
    assert len(sockets(work)) == 1
    assert children_of(daemon.pid) == [int(result.out)]


def test_a_session_sees_its_policy_die(start_exec: StartExec, connect_ssh: Callable[..., OpenSsh]) -> None:
    daemon = start_exec()
    ssh = connect_ssh(daemon)
    pid = policy_pid(ssh)
    session = ssh.popen("cat")
    session.stdin.write(b"x")
    session.stdin.flush()
    assert session.stdout.read(1) == b"x"
    os.kill(pid, signal.SIGKILL)
    assert session.wait(60) == 255


def test_a_killed_daemon_takes_its_policy_along(start_exec: StartExec, connect_ssh: Callable[..., OpenSsh]) -> None:
    daemon = start_exec()
    pid = policy_pid(connect_ssh(daemon))
    daemon.process.kill()
    daemon.process.wait()
    poll(lambda: not alive(pid), "the policy to follow its daemon")


def test_a_policy_that_ignores_sigterm_is_killed(start_exec: StartExec, connect_ssh: Callable[..., OpenSsh], work: Path) -> None:
    wrapper = work / "stubborn.py"
    wrapper.write_text(
        "import signal, sys, runpy\n"
        "signal.sigwait = lambda _: [signal.pause() for _ in iter(int, 1)]\n"
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
    )
    program = Path(__file__).parent / "harness/policy_process.py"
    daemon = start_exec(command=f"{sys.executable} {wrapper} {program}")
    pid = policy_pid(connect_ssh(daemon))
    began = time.monotonic()
    daemon.stop()
    assert time.monotonic() - began < 20
    poll(lambda: not alive(pid), "the policy to be gone")


@pytest.mark.parametrize("command", ["/nonexistent/policy", "false", "exit 3", "true"])
def test_a_program_that_ends_at_once(host_key: Key, work: Path, command: str) -> None:
    """One line that says so, status 1, and nothing left."""
    (work / "run").mkdir(mode=0o700)
    flags = ("--listen", "127.0.0.1:0", "--host-key", str(host_key.path), "--policy-exec", command)
    result = run_once(*flags, env={"XDG_RUNTIME_DIR": str(work / "run")})
    lines = [line for line in result.stderr.splitlines() if line.startswith("parleyd: ")]
    assert result.returncode == 1 and len(lines) == 1, result
    assert "policy program" in lines[0]
    assert list((work / "run").iterdir()) == []


@pytest.mark.parametrize("unusable", ["missing", "file", "unwritable"])
def test_no_place_for_the_socket(host_key: Key, work: Path, unusable: str) -> None:
    """A runtime directory that cannot be written in: it takes another, or says so in one line."""
    path = work / "run"
    if unusable == "file":
        path.write_text("")
    elif unusable == "unwritable":
        path = Path("/proc/self")
    flags = ("--listen", "127.0.0.1:0", "--host-key", str(host_key.path), "--policy-exec", "exit 3")
    result = run_once(*flags, env={"XDG_RUNTIME_DIR": str(path), "TMPDIR": str(path)})
    lines = [line for line in result.stderr.splitlines() if line.startswith("parleyd: ")]
    assert result.returncode == 1 and len(lines) == 1, result


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root to make /run and /tmp read-only for one process")
def test_nowhere_to_make_the_socket(host_key: Key) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="parley-e2e-") as name:
        key = shutil.copy(host_key.path, f"{name}/key")
        binary = shutil.copy(program(), f"{name}/parleyd")
        script = (
            "mount -t tmpfs none /run && mount -o remount,ro /run && mount -t tmpfs none /tmp && mount -o remount,ro /tmp || exit 77\n"
            f"exec {binary} --listen 127.0.0.1:0 --host-key {key} --policy-exec 'exec sleep 100'"
        )
        env = clean_env({"XDG_RUNTIME_DIR": "/run/user/0"})
        result = subprocess.run(["unshare", "-m", "sh", "-c", script], env=env, capture_output=True, text=True, timeout=60)
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip(f"no mount namespace here: {result.stderr}")
    lines = result.stderr.splitlines()
    assert result.returncode == 1 and len(lines) == 1 and lines[0].startswith("parleyd: "), result
    assert "/run" in lines[0], result


def test_sigterm_while_the_policy_is_awaited(start_exec: StartExec, work: Path) -> None:
    """It must not wait for a program that never answers."""
    marker = work / "started"
    daemon = start_exec(command=f"touch {shlex.quote(str(marker))}; exec sleep 1000", ready=False)
    poll(marker.exists, "the program to start")
    children = children_of(daemon.pid)
    daemon.stop()
    assert children
    poll(lambda: not any(map(alive, children)), "the program to be gone")


def test_the_program_inherits_nothing_it_should_not(start_exec: StartExec, work: Path) -> None:
    """No descriptor but the standard ones, default signals, nothing blocked."""
    report = work / "report"
    script = work / "look.py"
    script.write_text(
        "import os, time\n"
        "links = {n: os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}')}\n"
        f"open('{report}.tmp', 'w').write(repr(links) + '\\n' + open('/proc/self/status').read())\n"
        f"os.rename('{report}.tmp', '{report}')\n"
        "time.sleep(1000)\n"
    )
    daemon = start_exec(command=f"{sys.executable} {script}", ready=False)
    poll(report.exists, "the report")
    text = report.read_text()
    links = ast.literal_eval(text.splitlines()[0])
    assert set(links) == {"0", "1", "2"} and links["0"] == "/dev/null", links
    status = dict(line.split(":\t", 1) for line in text.splitlines() if line.startswith("Sig"))
    assert int(status["SigBlk"], 16) == 0, status
    ours = (1 << signal.SIGHUP - 1) | (1 << signal.SIGTERM - 1) | (1 << signal.SIGINT - 1) | (1 << signal.SIGCHLD - 1)
    assert int(status["SigIgn"], 16) & ours == 0, status
    daemon.stop()
