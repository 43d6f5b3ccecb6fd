"""Starts that cannot work say why in one line on stderr and end with status 2 (usage) or 1; --check, --version, --help."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from harness.answers import open_house, say
from harness.clients import OpenSsh
from harness.daemon import Daemon, program, run_once
from harness.keys import Key, make_key
from harness.policy import Policy

POLICY = ("--policy", "unix:/nonexistent/policy.sock")


def expect_complaint(result: subprocess.CompletedProcess, status: int, *words: str) -> None:
    """One line, with the program's name and all of these words."""
    assert result.returncode == status, result
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("parleyd: "), lines[0]
    for word in words:
        assert word in lines[0], lines[0]
    assert not result.stdout


@pytest.fixture
def base(host_key: Key) -> tuple[str, ...]:
    """Flags that would start."""
    return ("--listen", "127.0.0.1:0", "--host-key", str(host_key.path), *POLICY)


# ---- flags


@pytest.mark.parametrize(
    "flags,words",
    [
        (("--nonsense",), ("--nonsense",)),
        (("--nonsense=1",), ("--nonsense",)),
        (("-x",), ("-x",)),
        (("--listen",), ("--listen", "value")),
        (("--workers", "many"), ("--workers", "many")),
        (("--workers", "-1"), ("--workers", "-1")),
        (("--workers", "99999"), ("--workers", "99999")),
        (("--log-level", "loud"), ("--log-level", "loud")),
        (("--log-format", "xml"), ("--log-format", "xml")),
        (("--login-timeout", "soon"), ("--login-timeout", "soon")),
        (("--check=yes",), ("--check",)),
        (("extra",), ("extra",)),
        (("--rpc-deadline", "BeginAuth"), ("--rpc-deadline",)),
    ],
    ids=str,
)
def test_wrong_flags(base: tuple[str, ...], flags: tuple[str, ...], words: tuple[str, ...]) -> None:
    expect_complaint(run_once(*base, *flags), 2, *words)


def test_no_policy(host_key: Key) -> None:
    expect_complaint(run_once("--host-key", str(host_key.path)), 2, "--policy")


@pytest.mark.parametrize(
    "flags,words",
    [
        (("--listen", "nonsense"), ("--listen", "nonsense")),
        (("--listen", "127.0.0.1:99999"), ("99999",)),
        (("--policy-exec", "x"), ("--policy-exec", "--policy")),
        (("--policy-ca", "/nonexistent/ca"), ("--policy-ca", "/nonexistent/ca")),
        (("--policy-cert", "/nonexistent/cert"), ("policy-c",)),
        (("--required-handler", "Nonsense"), ("--required-handler", "Nonsense")),
        (("--rpc-deadline", "Nonsense=1s"), ("--rpc-deadline", "Nonsense")),
        (("--kex", "diffie-hellman-group1-sha1"), ("diffie-hellman-group1-sha1",)),
        (("--ciphers", "aes128-cbc"), ("aes128-cbc",)),
        (("--policy-token-file", "/nonexistent/token"), ("/nonexistent/token",)),
    ],
    ids=str,
)
def test_flags_that_cannot_work(base: tuple[str, ...], flags: tuple[str, ...], words: tuple[str, ...]) -> None:
    result = run_once(*base, *flags)
    expect_complaint(result, result.returncode, *words)
    assert result.returncode in (1, 2)


@pytest.mark.parametrize("target", ["192.0.2.1:7000", "dns:///policy.example:7000"])
def test_plaintext_beyond_loopback_is_refused(host_key: Key, target: str) -> None:
    flags = ("--listen", "127.0.0.1:0", "--host-key", str(host_key.path), "--policy", target)
    result = run_once(*flags, "--check")
    expect_complaint(result, result.returncode, "insecure")
    assert result.returncode in (1, 2)
    assert run_once(*flags, "--policy-insecure", "--check").returncode == 0


# ---- the file


def config(work: Path, text: str, host_key: Key) -> Path:
    path = work / "parleyd.yaml"
    path.write_text(text.replace("KEY", str(host_key.path)))
    return path


GOOD = """\
listen: [127.0.0.1:0]
host_keys: [KEY]
policy:
  target: unix:/nonexistent/policy.sock
"""


@pytest.mark.parametrize(
    "text,line,word",
    [
        (GOOD + "nonsense: 1\n", 5, "nonsense"),
        (GOOD.replace("target", "targget"), 4, "targget"),
        (GOOD + "workers: many\n", 5, "workers"),
        (GOOD + "limits:\n  max_failures: 6\n  login_timeout: soon\n", 7, "login_timeout"),
        (GOOD + "limits:\n\tmax_failures: 6\n", 6, ""),
        (GOOD + "log: {level: loud}\n", 5, "level"),
        (GOOD + "workers: [1, 2]\n", 5, "workers"),
        (GOOD + "workers: 1\nworkers: 2\n", 6, "workers"),
        (GOOD + "policy_typo: {\n", 6, ""),
        (GOOD.replace("[KEY]", "[/nonexistent/key]"), 2, "/nonexistent/key"),
        (GOOD + "  deadlines: {Nonsense: 1s}\n", 5, "Nonsense"),
        (GOOD + "  required_handlers:\n    - BeginAuth\n    - Nonsense\n", 7, "Nonsense"),
    ],
    ids=range(12),
)
def test_wrong_yaml_names_the_line(work: Path, host_key: Key, text: str, line: int, word: str) -> None:
    path = config(work, text, host_key)
    for extra in ((), ("--check",)):
        result = run_once("--config", str(path), *extra)
        expect_complaint(result, 1, word)
        found = re.search(rf"{re.escape(str(path))}:(\d+)", result.stderr)
        assert found and abs(int(found[1]) - line) <= (1 if not word else 0), result.stderr


@pytest.mark.parametrize("path", ["/nonexistent/parleyd.yaml", "/"])
def test_unreadable_file(path: str) -> None:
    expect_complaint(run_once("--config", path), 1, path)


@pytest.mark.parametrize("text", ["", "a\0b", "- list\n", "just text\n", "listen: *x\n", "\xff\xfe", "a: b\n---\nc: d\n"], ids=range(7))
def test_files_that_are_no_configuration(work: Path, text: str) -> None:
    path = work / "parleyd.yaml"
    path.write_bytes(text.encode("latin-1"))
    expect_complaint(run_once("--config", str(path)), 1, str(path))


def test_flag_beats_environment_beats_file(work: Path, host_key: Key) -> None:
    path = config(work, GOOD + "log:\n  level: loud1\n", host_key)
    assert "loud1" in run_once("--config", str(path)).stderr
    path.write_text(path.read_text().replace("loud1", "info"))
    result = run_once("--config", str(path), "--check", env={"PARLEY_LOG_LEVEL": "loud2"})
    expect_complaint(result, 1, "PARLEY_LOG_LEVEL", "loud2")
    assert run_once("--check", env={"PARLEY_CONFIG": str(path)}).returncode == 0


def test_file_and_environment_start_it(work: Path, host_key: Key, policy: Policy, start_daemon, connect_ssh) -> None:
    open_house(policy, say(b"in\n"))
    path = work / "parleyd.yaml"
    path.write_text(f"policy:\n  target: {policy.target}\nworkers: 1\n")
    daemon: Daemon = start_daemon("--config", str(path), policy="", env={"PARLEY_WORKERS": "3"})
    assert daemon.wait_event("ready")["workers"] == "3"
    assert connect_ssh(daemon).run("x").out == b"in\n"


# ---- host keys


def test_no_host_key() -> None:
    result = run_once("--listen", "127.0.0.1:0", *POLICY)
    expect_complaint(result, result.returncode, "host", "ssh-keygen")
    assert result.returncode in (1, 2)


def test_missing_host_key(work: Path) -> None:
    expect_complaint(run_once("--host-key", str(work / "none"), *POLICY), 1, str(work / "none"), "No such file")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_host_key_that_others_may_read(work: Path, mode: int) -> None:
    key = make_key(work / "key")
    key.path.chmod(mode)
    expect_complaint(run_once("--host-key", str(key.path), *POLICY), 1, str(key.path))


@pytest.mark.parametrize("content", [b"", b"nonsense\n", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"])
def test_host_key_that_is_none(work: Path, content: bytes) -> None:
    path = work / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    expect_complaint(run_once("--listen", "127.0.0.1:0", "--host-key", str(path), *POLICY), 1, str(path))


def test_encrypted_host_key(work: Path) -> None:
    path = work / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(path)], check=True)
    expect_complaint(run_once("--listen", "127.0.0.1:0", "--host-key", str(path), *POLICY), 1, str(path))


def test_two_host_keys_of_one_type(work: Path, host_key: Key) -> None:
    second = make_key(work / "second")
    flags = ("--listen", "127.0.0.1:0", "--host-key", str(host_key.path), "--host-key", str(second.path), *POLICY)
    expect_complaint(run_once(*flags), 1, str(second.path))


@pytest.mark.parametrize("kinds", [("rsa",), ("ecdsa",), ("ed25519", "rsa", "ecdsa")])
def test_host_keys_of_every_type(work: Path, policy: Policy, start_daemon, kinds: tuple[str, ...]) -> None:
    """The client is served with each, when it asks for that one."""
    open_house(policy, say(b"in\n"))
    keys = [make_key(work / kind, kind) for kind in kinds]
    flags = [word for key in keys for word in ("--host-key", str(key.path))]
    daemon = Daemon(["--listen", "127.0.0.1:0", "--policy", policy.target, *flags]).wait_ready()
    try:
        for key in keys:
            ssh = OpenSsh(daemon.port, work, key)
            algorithm = "rsa-sha2-512" if key.kind == "ssh-rsa" else key.kind
            result = ssh.run("x", options=("-o", f"HostKeyAlgorithms={algorithm}"))
            assert result.out == b"in\n", result
        daemon.stop()
    finally:
        daemon.kill()


# ---- ports


@pytest.mark.parametrize("share", [False, True], ids=["plain", "so_reuseport"])
def test_busy_port(host_key: Key, share: bool) -> None:
    """Also when the other one would share it: two daemons on one port are a mistake."""
    with socket.socket() as other:
        if share:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = "127.0.0.1:%d" % other.getsockname()[1]
        result = run_once("--listen", address, "--host-key", str(host_key.path), *POLICY)
    lines = [line for line in result.stderr.splitlines() if line.startswith("parleyd: ")]
    assert result.returncode == 1 and len(lines) == 1, result
    assert address in lines[0] and "in use" in lines[0]


def test_port_of_another_parleyd(policy: Policy, daemon: Daemon, host_key: Key) -> None:
    result = run_once("--listen", f"127.0.0.1:{daemon.port}", "--host-key", str(host_key.path), *POLICY)
    assert result.returncode == 1 and "in use" in result.stderr


def test_restart_on_the_same_port(policy: Policy, start_daemon, host_key: Key) -> None:
    """Connections of the daemon before it (TIME_WAIT) do not keep the port."""
    from harness.rawclient import RawClient

    open_house(policy)
    first: Daemon = start_daemon()
    port = first.port
    client = RawClient(port).login()
    first.stop()
    client.close()
    second = Daemon(["--listen", f"127.0.0.1:{port}", "--host-key", str(host_key.path), "--policy", policy.target])
    try:
        second.wait_ready()
        RawClient(port).login().close()
        second.stop()
    finally:
        second.kill()


def test_address_that_is_not_ours(host_key: Key) -> None:
    result = run_once("--listen", "192.0.2.1:2222", "--host-key", str(host_key.path), *POLICY)
    assert result.returncode == 1 and "192.0.2.1:2222" in result.stderr, result


def test_two_listeners(policy: Policy, start_daemon) -> None:
    from harness.rawclient import RawClient

    open_house(policy)
    daemon: Daemon = start_daemon("--listen", "127.0.0.1:0")
    assert len(set(daemon.ports)) == 2
    for port in daemon.ports:
        RawClient(port).login().close()


# ---- questions about itself


def test_check(base: tuple[str, ...], work: Path, host_key: Key) -> None:
    result = run_once(*base, "--check")
    assert (result.returncode, result.stderr) == (0, ""), result
    assert "ok" in result.stdout
    assert run_once("--config", str(config(work, GOOD, host_key)), "--check").returncode == 0


def test_check_needs_no_port(host_key: Key) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = "127.0.0.1:%d" % other.getsockname()[1]
        assert run_once("--listen", address, "--host-key", str(host_key.path), *POLICY, "--check").returncode == 0


def test_version() -> None:
    result = run_once("--version")
    assert result.returncode == 0 and not result.stderr
    assert re.fullmatch(r"parleyd \d+\.\d+\.\d+.*libssh \d+\.\d+.*\n", result.stdout), result.stdout


def test_help() -> None:
    """Every flag that people rely on is there."""
    result = run_once("--help")
    assert result.returncode == 0 and not result.stderr
    for flag in "config listen host-key policy policy-ca policy-cert policy-key policy-insecure policy-exec log-format log-level workers check version help".split():
        assert f"--{flag}" in result.stdout, flag


def test_help_to_a_closed_pipe() -> None:
    """Nothing terrible happens when nobody reads."""
    process = subprocess.Popen([program(), "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.wait()


def test_starts_with_standard_streams_closed(policy: Policy, host_key: Key, work: Path) -> None:
    """A socket never becomes stderr."""
    open_house(policy, say(b"in\n"))
    command = f"exec {program()} --listen 127.0.0.1:0 --host-key {host_key.path} --policy {policy.target} --check <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], timeout=60).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv to become somebody else")
def test_host_key_of_somebody_else(work: Path, host_key: Key) -> None:
    """As another user: unreadable, one line."""
    work.chmod(0o755)
    binary = work / "parleyd"
    shutil.copy(program(), binary)
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", str(binary)]
    result = subprocess.run([*command, "--host-key", str(host_key.path), *POLICY], capture_output=True, text=True, timeout=60)
    expect_complaint(result, 1, str(host_key.path), "Permission denied")
