"""Much data to and from another server, through changes of keys on every leg, with programs that people use, and in bounded memory."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest
from test_bulk import MIB, TOTAL, blocks, digest, feed
from test_direct import open_tcp
from test_process_bulk import settle, written
from test_process_tools import needs, options, run, snapshot, tree  # noqa: F401

from harness.answers import upstream_house
from harness.clients import OpenSsh
from harness.daemon import Daemon, is_sanitized, rss_kib
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.sshd import SFTP_SERVER, Sshd
from harness.wait import PATIENCE_S, poll
from harness.wire import string

Raw = Callable[..., RawClient]
needs_sftp = pytest.mark.skipif(not os.path.exists(SFTP_SERVER), reason="no sftp-server (openssh-sftp-server)")


@pytest.fixture
def house(policy: Policy, sshd: Sshd) -> Policy:
    return upstream_house(policy, sshd.hop())


REKEYS = {
    # who wants new keys each MiB: the daemon on both of its legs, the server there, the client
    "daemon": (("--rekey-bytes", "1MiB"), (), ()),
    "server": ((), ("RekeyLimit 1M",), ()),
    "client": ((), (), ("-o", "RekeyLimit=1M", "-o", "KexAlgorithms=curve25519-sha256")),
}


@pytest.fixture(params=REKEYS)
def rekeying(request: Any, policy: Policy, start_sshd: Any, start_daemon: Any, connect_ssh: Any) -> tuple[OpenSsh, tuple[str, ...]]:
    flags, lines, options = REKEYS[request.param]
    upstream_house(policy, start_sshd(*lines).hop())
    return connect_ssh(start_daemon(*flags)), options


def test_100_mb_from_there(rekeying: tuple[OpenSsh, tuple[str, ...]], work: Path) -> None:
    ssh, options = rekeying
    with (work / "data").open("wb") as file:
        file.writelines(blocks(TOTAL, MIB))
    client = ssh.popen(f"cat {work}/data; exit 9", options=options)
    got = hashlib.sha256()
    while data := client.stdout.read(MIB):
        got.update(data)
    assert client.wait(PATIENCE_S) == 9, client.stderr.read()
    assert got.hexdigest() == digest(TOTAL, MIB)


def test_100_mb_to_there(rekeying: tuple[OpenSsh, tuple[str, ...]]) -> None:
    ssh, options = rekeying
    client = ssh.popen("sha256sum; exit 9", options=options)
    feeder = feed(client.stdin, blocks(TOTAL, MIB))
    assert client.stdout.read().split()[0].decode() == digest(TOTAL, MIB)
    feeder.join(PATIENCE_S)
    assert client.wait(PATIENCE_S) == 9, client.stderr.read()


def test_both_ways_at_once_while_all_rekey(policy: Policy, start_sshd: Any, start_daemon: Any, connect_ssh: Any) -> None:
    total = 32 * MIB
    upstream_house(policy, start_sshd("RekeyLimit 3M").hop())
    client = connect_ssh(start_daemon("--rekey-bytes", "2MiB")).popen("cat; exit 9", options=("-o", "RekeyLimit=5M"))
    feeder = feed(client.stdin, blocks(total, MIB))
    got = hashlib.sha256()
    while data := client.stdout.read(MIB):
        got.update(data)
    feeder.join(PATIENCE_S)
    assert client.wait(PATIENCE_S) == 9, client.stderr.read()
    assert got.hexdigest() == digest(total, MIB)


# ---- back-pressure, end to end


def test_a_client_that_does_not_read_stops_the_program(house: Policy, daemon: Daemon, ssh: OpenSsh) -> None:
    client = ssh.popen(f"echo $$; exec head -c {256 * MIB} /dev/zero")
    pid = int(client.stdout.readline())
    before = rss_kib(daemon.pid)
    assert settle(lambda: written(pid)) < 40 * MIB
    if not is_sanitized(daemon.pid):
        assert rss_kib(daemon.pid) - before < 8 * 1024
    assert len(client.stdout.read()) == 256 * MIB
    assert client.wait(PATIENCE_S) == 0


def test_a_program_that_does_not_read_stops_the_client(house: Policy, daemon: Daemon, ssh: OpenSsh) -> None:
    client = ssh.popen("echo $$; read line; kill -STOP $$; exec sha256sum")
    pid = int(client.stdout.readline())
    before = rss_kib(daemon.pid)
    client.stdin.write(b"go\n")
    client.stdin.flush()
    poll(lambda: "T" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0], "a stopped program")
    feeder = feed(client.stdin, blocks(TOTAL, MIB))
    settle(lambda: written(client.pid))
    assert feeder.is_alive() and written(client.pid) < 40 * MIB
    if not is_sanitized(daemon.pid):
        assert rss_kib(daemon.pid) - before < 8 * 1024
    os.kill(pid, signal.SIGCONT)
    assert client.stdout.read().split()[0].decode() == digest(TOTAL, MIB)
    assert client.wait(PATIENCE_S) == 0


def test_a_stopped_session_stops_no_other_of_its_connection(house: Policy, sshd: Sshd, raw: Raw) -> None:
    """One pours and is not read, its neighbour on the same upstream connection echoes."""
    client = raw().login()
    echo = client.execute("exec cat", channel=1)
    client.execute("exec cat /dev/zero", channel=0)
    count = 0
    while count < 2 << 20:  # all that our window allows
        message = client.until(94)
        message.u32()
        count += len(message.string())
    client.data(echo, b"still here\n")
    while True:
        message = client.until(94)
        if message.u32() == 1:
            assert message.string() == b"still here\n"
            break
    assert len(sshd.logins()) == 1


def test_a_direct_channel_that_is_not_read_costs_bounded_memory(house: Policy, daemon: Daemon, raw: Raw) -> None:
    """The place that the other server connects to floods; the client takes nothing."""
    client = raw().login()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client.send(open_tcp(client, "127.0.0.1", listener.getsockname()[1]))
        client.expect(91)
        peer, _ = listener.accept()
        before = rss_kib(daemon.pid)
        peer.settimeout(1)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 1 << 30:
                sent += peer.send(bytes(1 << 20))
        if not is_sanitized(daemon.pid):
            assert rss_kib(daemon.pid) - before <= 8 * 1024
        client.send(bytes([80]) + string("still-alive@example.com") + b"\1")
        client.until(82)
        peer.close()


# ---- programs that people run


@needs_sftp
@needs("sftp")
def test_sftp(house: Policy, ssh: OpenSsh, tree: Path, work: Path) -> None:  # noqa: F811
    batch = work / "batch"
    batch.write_text(f"put -r {tree} {work}/there\nget -r {work}/there {work}/back\nrename {work}/there/run {work}/there/walk\n")
    run(["sftp", *options(ssh), "-P", str(ssh.port), "-b", str(batch), "alice@127.0.0.1"], ssh)
    assert (work / "back" / "large").read_bytes() == (tree / "large").read_bytes()
    assert (work / "back" / "sub dir" / "with spaces ü").read_text() == "text\n"
    assert (work / "there" / "walk").exists()


@needs("scp")
@pytest.mark.parametrize("protocol", ["-O", pytest.param("-s", marks=needs_sftp)])
def test_scp(house: Policy, ssh: OpenSsh, tree: Path, work: Path, protocol: str) -> None:  # noqa: F811
    scp = ["scp", protocol, "-r", "-p", *options(ssh), "-P", str(ssh.port)]
    run([*scp, str(tree), f"alice@127.0.0.1:{work}/there"], ssh)
    run([*scp, f"alice@127.0.0.1:{work}/there", str(work / "back")], ssh)
    for name in ("large", "run", "sub dir/with spaces ü", "nothing"):
        assert (work / "back" / name).read_bytes() == (tree / name).read_bytes()
        assert (work / "back" / name).stat().st_mode == (tree / name).stat().st_mode


@needs("rsync")
def test_rsync(house: Policy, ssh: OpenSsh, tree: Path, work: Path) -> None:  # noqa: F811
    rsh = " ".join(map(shlex.quote, ["ssh", *options(ssh), "-p", str(ssh.port)]))
    there = f"alice@127.0.0.1:{work}/there/"
    run(["rsync", "-a", "-z", "-e", rsh, f"{tree}/", there], ssh)
    run(["rsync", "-a", "-z", "-e", rsh, there, f"{work}/back/"], ssh)
    assert snapshot(work / "there") == snapshot(work / "back") == snapshot(tree)


@needs("git")
def test_git_clone(house: Policy, ssh: OpenSsh, tree: Path, work: Path) -> None:  # noqa: F811
    origin = work / "origin"
    shutil.copytree(tree, origin, symlinks=True)
    env = {
        "GIT_SSH_COMMAND": " ".join(map(shlex.quote, ["ssh", *options(ssh)])),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "test@test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    for args in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *args], cwd=origin, env=ssh.env(extra=env), check=True, capture_output=True)
    run(["git", "clone", "-q", f"ssh://alice@127.0.0.1:{ssh.port}{origin}", "copy"], ssh, env=env, cwd=work)
    assert (work / "copy" / "large").read_bytes() == (tree / "large").read_bytes()
