"""Other clients than OpenSSH: what people have installed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any, Callable

import asyncssh
import paramiko
import pytest

from harness.answers import PASSWORD, PUBLICKEY, begin, cat, key_house, key_ok, methods, open_house, password_house, password_no, password_ok, say, serve
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon, clean_env
from harness.keys import Key
from harness.policy import Policy
from harness.stream import ChannelStream
from harness.wait import PATIENCE_S


async def program(channel: ChannelStream) -> None:
    """Says what it is asked, fails as it is told."""
    if channel.session.exec.command == b"fail":
        await channel.write(b"no\n", 1)
        await channel.exit(5)
    else:
        await cat(channel)


def run(argv: list[str], data: bytes = b"", env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(argv, input=data, capture_output=True, timeout=PATIENCE_S, env=clean_env(env), start_new_session=True)


# ---- asyncssh


def with_asyncssh(daemon: Daemon, work: Callable[[asyncssh.SSHClientConnection], Any], **how: Any) -> Any:
    async def main() -> Any:
        options = {"username": "alice", "known_hosts": None, "client_keys": None, "agent_path": None, "config": None} | how
        async with asyncssh.connect("127.0.0.1", daemon.port, **options) as connection:
            return await work(connection)

    return asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_asyncssh_password(policy: Policy, daemon: Daemon) -> None:
    password_house(policy)
    serve(policy, program)

    async def work(connection: asyncssh.SSHClientConnection) -> tuple[Any, Any]:
        return await connection.run("cat", input="hello"), await connection.run("fail")

    good, bad = with_asyncssh(daemon, work, password="wonderland")
    assert (good.stdout, good.exit_status) == ("hello", 0)
    assert (bad.stderr, bad.exit_status) == ("no\n", 5)


def test_asyncssh_wrong_password(policy: Policy, daemon: Daemon) -> None:
    password_house(policy)
    with pytest.raises(asyncssh.PermissionDenied):
        with_asyncssh(daemon, lambda connection: connection.run("x"), password="no")


def test_asyncssh_changes_an_expired_password(policy: Policy, daemon: Daemon) -> None:
    """RFC 4252 section 8: the first new one is not good enough, the second is."""
    offered = iter(["short", "long enough"])
    prompts: list[str] = []

    class Client(asyncssh.SSHClient):
        def password_change_requested(self, prompt: str, lang: str) -> tuple[str, str]:
            prompts.append(prompt)
            return "wonderland", next(offered)

    def change(request: Any, context: Any) -> Any:
        if len(request.new_password) < 8:
            return pb.PasswordAnswer(change_required=pb.PasswordChange(prompt="too short"))
        return pb.PasswordAnswer(allow=pb.Allow())

    password_house(policy)
    policy.on.ValidatePassword = lambda request, context: pb.PasswordAnswer(change_required=pb.PasswordChange(prompt="expired"))
    policy.on.ChangePassword = change
    result = with_asyncssh(daemon, lambda connection: connection.run("x"), password="wonderland", client_factory=Client)
    assert result.exit_status == 0 and prompts == ["expired", "too short"]
    asked = policy.requests("ChangePassword")
    assert [(ask.old_password, ask.new_password) for ask in asked] == [("wonderland", "short"), ("wonderland", "long enough")]


def test_asyncssh_key(policy: Policy, daemon: Daemon, user_key: Key) -> None:
    key_house(policy, user_key.blob)
    result = with_asyncssh(daemon, lambda connection: connection.run("x"), client_keys=[str(user_key.path)])
    assert result.exit_status == 0


@pytest.mark.parametrize("kex", ["curve25519-sha256", "mlkem768x25519-sha256", "sntrup761x25519-sha512@openssh.com"])
@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr"])
def test_asyncssh_algorithms(policy: Policy, daemon: Daemon, kex: str, cipher: str) -> None:
    """Everything that we offer first works; what this asyncssh lacks is left out."""
    from asyncssh.encryption import get_encryption_algs
    from asyncssh.kex import get_kex_algs

    if kex.encode() not in get_kex_algs() or cipher.encode() not in get_encryption_algs():
        pytest.skip("not in this asyncssh")
    open_house(policy, cat)
    result = with_asyncssh(daemon, lambda c: c.run("cat", input="x" * 100_000), kex_algs=[kex], encryption_algs=[cipher])
    assert result.stdout == "x" * 100_000


@pytest.mark.parametrize("how", [{"kex_algs": ["diffie-hellman-group1-sha1"]}, {"encryption_algs": ["aes128-cbc"]}, {"mac_algs": ["hmac-md5"], "encryption_algs": ["aes256-ctr"]}])
def test_old_algorithms_are_not_offered(policy: Policy, daemon: Daemon, how: dict[str, Any]) -> None:
    open_house(policy, cat)
    with pytest.raises((asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost)):
        with_asyncssh(daemon, lambda connection: connection.run("x"), **how)


def test_asyncssh_rekeys_under_load(policy: Policy, daemon: Daemon) -> None:
    open_house(policy, cat)
    data = os.urandom(4 << 20)

    async def work(connection: asyncssh.SSHClientConnection) -> bytes:
        return (await connection.run("cat", input=data, encoding=None)).stdout

    assert with_asyncssh(daemon, work, rekey_bytes=300_000) == data


def test_asyncssh_thirty_sessions(policy: Policy, start_daemon: Callable[..., Daemon]) -> None:
    """At once, on one connection."""
    open_house(policy, cat)
    daemon = start_daemon("--max-sessions", "50")

    async def work(connection: asyncssh.SSHClientConnection) -> list[str]:
        results = await asyncio.gather(*[connection.run("cat", input=f"{i}") for i in range(30)])
        return [result.stdout for result in results]

    assert with_asyncssh(daemon, work) == [str(i) for i in range(30)]


def two_factors(policy: Policy, key: Key) -> None:
    """A key that BeginAuth hands over, and a password."""
    policy.on.BeginAuth = begin(PUBLICKEY, PASSWORD, authorized_keys=f"no-pty {key.public}".encode(), required=[methods(PUBLICKEY, PASSWORD)])
    policy.on.ValidatePassword = lambda request, _: password_ok() if request.password == "wonderland" else password_no()
    serve(policy, say(b"in"))


def both_passed(policy: Policy) -> bool:
    completed = policy.wait_for("AuthCompleted")
    return [factor.method for factor in completed.context.passed] == [PUBLICKEY, PASSWORD] and completed.restrictions.no_pty


def test_asyncssh_two_factors(policy: Policy, daemon: Daemon, user_key: Key) -> None:
    two_factors(policy, user_key)
    how = {"client_keys": [str(user_key.path)], "request_pty": False}
    result = with_asyncssh(daemon, lambda connection: connection.run("x"), password="wonderland", **how)
    assert result.stdout == "in" and both_passed(policy)


def test_asyncssh_half_a_login(policy: Policy, daemon: Daemon, user_key: Key) -> None:
    two_factors(policy, user_key)
    for half in ({"client_keys": [str(user_key.path)]}, {"password": "wonderland"}, {"client_keys": [str(user_key.path)], "password": "no"}):
        with pytest.raises(asyncssh.PermissionDenied):
            with_asyncssh(daemon, lambda connection: connection.run("x"), **half)
    assert not daemon.events("login")


# ---- paramiko


def paramiko_client(daemon: Daemon, **how: Any) -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    options = {"username": "alice", "allow_agent": False, "look_for_keys": False, "timeout": PATIENCE_S} | how
    client.connect("127.0.0.1", daemon.port, **options)
    return client


def test_paramiko(policy: Policy, daemon: Daemon, user_key: Key) -> None:
    policy.on.BeginAuth = begin(PASSWORD, PUBLICKEY)
    policy.on.ValidatePassword = password_ok()
    policy.on.ValidatePublicKey = key_ok()
    serve(policy, program)
    for how in ({"password": "x"}, {"key_filename": str(user_key.path)}):
        with paramiko_client(daemon, **how) as client:
            stdin, stdout, _ = client.exec_command("cat", timeout=PATIENCE_S)
            stdin.write("hello")
            stdin.channel.shutdown_write()
            assert stdout.read() == b"hello" and stdout.channel.recv_exit_status() == 0
            _, stdout, stderr = client.exec_command("fail", timeout=PATIENCE_S)
            assert stderr.read() == b"no\n" and stdout.channel.recv_exit_status() == 5


def test_paramiko_wrong_password(policy: Policy, daemon: Daemon) -> None:
    password_house(policy)
    with pytest.raises(paramiko.AuthenticationException):
        paramiko_client(daemon, password="no")


def test_paramiko_two_factors(policy: Policy, daemon: Daemon, user_key: Key) -> None:
    two_factors(policy, user_key)
    with paramiko_client(daemon, key_filename=str(user_key.path), password="wonderland") as client:
        assert client.exec_command("x", timeout=PATIENCE_S)[1].read() == b"in"
    assert both_passed(policy)


def test_paramiko_half_a_login(policy: Policy, daemon: Daemon, user_key: Key) -> None:
    two_factors(policy, user_key)
    with pytest.raises(paramiko.SSHException):
        paramiko_client(daemon, key_filename=str(user_key.path), password="no")
    assert not daemon.events("login")


def test_paramiko_threads_share_a_connection(policy: Policy, daemon: Daemon) -> None:
    open_house(policy, cat)
    policy.on.BeginAuth = begin(PASSWORD)
    policy.on.ValidatePassword = password_ok()
    results: dict[int, bytes] = {}

    with paramiko_client(daemon, password="x") as client:

        def one(number: int) -> None:
            stdin, stdout, _ = client.exec_command("cat", timeout=PATIENCE_S)
            stdin.write(b"%d" % number * 1000)
            stdin.channel.shutdown_write()
            results[number] = stdout.read()

        threads = [threading.Thread(target=one, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert results == {i: b"%d" % i * 1000 for i in range(8)}


# ---- dropbear and PuTTY


@pytest.mark.skipif(not shutil.which("dbclient"), reason="dropbear's client (dropbear-bin) is not installed")
def test_dbclient(policy: Policy, daemon: Daemon, work: Path) -> None:
    password_house(policy)
    serve(policy, program)
    env = {"DROPBEAR_PASSWORD": "wonderland", "HOME": str(work)}
    argv = ["dbclient", "-y", "-y", "-T", "-p", str(daemon.port), "alice@127.0.0.1"]
    good = run([*argv, "cat"], b"hello", env)
    assert (good.returncode, good.stdout) == (0, b"hello"), good
    bad = run([*argv, "fail"], b"", env)
    assert bad.returncode == 5 and b"no\n" in bad.stderr, bad
    wrong = run([*argv, "cat"], b"hello", env | {"DROPBEAR_PASSWORD": "no"})  # it tries on until it is cut off, then exits with 0
    assert b"hello" not in wrong.stdout and b"Disconnect" in wrong.stdout + wrong.stderr, wrong


@pytest.mark.skipif(not shutil.which("plink"), reason="PuTTY's client (putty-tools) is not installed")
def test_plink(policy: Policy, daemon: Daemon, work: Path, host_key: Key) -> None:
    password_house(policy)
    serve(policy, program)
    argv = ["plink", "-ssh", "-batch", "-P", str(daemon.port), "-l", "alice", "-hostkey", host_key.fingerprint]
    good = run([*argv, "-pw", "wonderland", "127.0.0.1", "cat"], b"hello", {"HOME": str(work)})
    assert (good.returncode, good.stdout) == (0, b"hello"), good
    bad = run([*argv, "-pw", "wonderland", "127.0.0.1", "fail"], b"", {"HOME": str(work)})
    assert bad.returncode == 5 and b"no\n" in bad.stderr, bad
    wrong = run([*argv, "-pw", "no", "127.0.0.1", "cat"], b"", {"HOME": str(work)})
    assert wrong.returncode != 0 and not wrong.stdout


# ---- OpenSSH with other settings


@pytest.mark.parametrize("kex", ["curve25519-sha256", "sntrup761x25519-sha512@openssh.com"])
@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr"])
def test_openssh_algorithms(policy: Policy, ssh: OpenSsh, kex: str, cipher: str) -> None:
    open_house(policy, cat)
    data = os.urandom(300_000)
    result = ssh.run("cat", stdin=data, options=("-o", f"KexAlgorithms={kex}", "-c", cipher))
    assert (result.status, result.out) == (0, data), result.err


def test_openssh_compression(policy: Policy, ssh: OpenSsh) -> None:
    """Whether it is offered or not: the bytes are right."""
    open_house(policy, cat)
    data = b"compress me " * 50_000
    assert ssh.run("cat", stdin=data, options=("-C",)).out == data


def test_openssh_keepalives(policy: Policy, ssh: OpenSsh) -> None:
    """Asked once a second, answered each time: as many seconds of silence as would end it unanswered, and more, end nothing."""
    import asyncio as aio

    async def slow(channel: ChannelStream) -> None:
        await aio.sleep(4.5)
        await channel.write(b"done\n")
        await channel.exit(0)

    open_house(policy, slow)
    result = ssh.run("x", options=("-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"))
    assert (result.status, result.out) == (0, b"done\n"), result


def test_openssh_learns_the_host_keys(policy: Policy, ssh: OpenSsh) -> None:
    """hostkeys-00@openssh.com and the proof: the client accepts them without a complaint."""
    open_house(policy, say(b""))
    result = ssh.run("x", options=("-o", "UpdateHostKeys=yes", "-o", "LogLevel=DEBUG1"))
    assert result.status == 0 and "invalid" not in result.err.lower() and "bad signature" not in result.err.lower(), result
    assert "client_input_hostkeys" in result.err


def test_openssh_hostbound_signatures(policy: Policy, ssh: OpenSsh, user_key: Key) -> None:
    key_house(policy, user_key.blob)
    result = ssh.run("x", key=user_key, options=("-o", "LogLevel=DEBUG3"))
    assert result.status == 0 and "publickey-hostbound-v00@openssh.com" in result.err
    assert policy.wait_for("ValidatePublicKey").use.signature_algorithm == "ssh-ed25519"
    assert pb.KEY_PHASE_PROVEN in [request.use.phase for request in policy.requests("ValidatePublicKey")]
