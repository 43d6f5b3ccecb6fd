"""Other servers that are reached through others: each hop is verified and logged in to by itself, and only the first is dialled."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path
from typing import Any, Callable

import pytest
from test_bulk import MIB, blocks, digest, feed
from test_direct import echo, open_tcp, refusal  # noqa: F401
from test_process_life import descriptors

from harness.answers import hop, open_house, upstream_house
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon
from harness.keys import Key, make_key
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.rawserver import RawServed
from harness.sshd import Sshd, free_port, host_line
from harness.wait import PATIENCE_S, poll
from harness.wire import string, u32

Raw = Callable[..., RawClient]


@pytest.fixture
def chain(start_sshd: Any, work: Path) -> list[Sshd]:
    """Three, each with its own keys; the second and third are on addresses that no other test uses."""
    return [
        start_sshd(host_key=make_key(work / f"host{n}"), user_key=make_key(work / f"login{n}"), address=f"127.0.{n}.1")
        for n in range(3)
    ]


@pytest.mark.parametrize("count", [2, 3])
def test_through_others(policy: Policy, chain: list[Sshd], ssh: OpenSsh, count: int) -> None:
    upstream_house(policy, *(sshd.hop() for sshd in chain[:count]))
    result = ssh.run("cat; echo $SSH_CONNECTION; exit 3", stdin=b"in\n")
    assert result.status == 3 and result.out.startswith(b"in\n"), result
    assert result.out.split()[3].decode() == chain[count - 1].address
    assert [len(sshd.logins()) for sshd in chain] == [1] * count + [0] * (3 - count)
    for sshd in chain[:count]:
        sshd.wait_connections(0)


def test_through_another_parleyd(policy: Policy, start_daemon: Any, host_key: Key, chain: list[Sshd], ssh: OpenSsh, work: Path) -> None:
    """Which asks its own policy for the way on."""
    with Policy(f"unix:{work}/middle.sock") as middle_policy:
        open_house(middle_policy)
        middle_policy.on.ConnectionRequested = pb.OpenAnswer(forward=pb.ForwardEndpoint())
        middle = start_daemon(policy=middle_policy.target)
        first = hop("127.0.0.1", middle.port, host_line("127.0.0.1", middle.port, host_key.public), password="x", user="jumper")
        upstream_house(policy, first, chain[1].hop())
        assert ssh.run("echo there").out == b"there\n"
        asked = middle_policy.wait_for("ConnectionRequested")
        assert (asked.context.user, asked.dest_host, asked.dest_port) == ("jumper", chain[1].address, chain[1].port)


def test_much_through_others(policy: Policy, chain: list[Sshd], start_daemon: Any, connect_ssh: Any) -> None:
    """With new keys on all legs."""
    total = 32 * MIB
    upstream_house(policy, *(sshd.hop() for sshd in chain))
    client = connect_ssh(start_daemon("--rekey-bytes", "3MiB")).popen("cat; exit 9", options=("-o", "RekeyLimit=5M"))
    feeder = feed(client.stdin, blocks(total, MIB))
    got = hashlib.sha256()
    while data := client.stdout.read(MIB):
        got.update(data)
    feeder.join(PATIENCE_S)
    assert client.wait(PATIENCE_S) == 9, client.stderr.read()
    assert got.hexdigest() == digest(total, MIB)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("how", ["key", "credential", "down"])
def test_the_hop_that_fails_is_named(policy: Policy, chain: list[Sshd], ssh: OpenSsh, other_key: Key, which: int, how: str) -> None:
    """And no later one has been heard of."""
    hops = [sshd.hop() for sshd in chain]
    wrong = {
        "key": {"known_hosts": f"* {other_key.public}\n"},
        "credential": {"private_key": other_key.path.read_bytes()},
        "down": {},
    }[how]
    hops[which] = chain[which].hop(**wrong)
    if how == "down":
        hops[which].port = free_port(chain[which].address)
    upstream_house(policy, *hops)
    result = ssh.run("echo in")
    assert (result.status, result.out) == (255, b"") and chain[which].address in result.err, result
    assert [len(sshd.logins()) for sshd in chain] == [1] * which + [0] * (3 - which)
    for later in chain[which + 1 :]:
        assert "Connection from" not in later.log
    for sshd in chain:
        sshd.wait_connections(0)


def test_a_hop_that_may_not_jump(policy: Policy, start_sshd: Any, sshd: Sshd, ssh: OpenSsh) -> None:
    first = start_sshd("AllowTcpForwarding no", address="127.0.7.1")
    upstream_house(policy, first.hop(), sshd.hop())
    result = ssh.run("echo in")
    assert (result.status, result.out) == (255, b"") and result.err.strip(), result
    first.wait_connections(0)


def test_each_hop_has_its_own_deadline(policy: Policy, start_raw_server: Any, sshd: Sshd, ssh: OpenSsh) -> None:
    def script(served: RawServed) -> None:
        while served.socket.recv(4096):
            pass

    server = start_raw_server(script)
    upstream_house(policy, sshd.hop(), hop(server.address, server.port, server.known_hosts, password="x", connect_timeout_s=1))
    result = ssh.run("x")
    assert (result.status, result.out) == (255, b"") and result.err.strip(), result
    server.wait_ends()
    sshd.wait_connections(0)


def test_the_names_of_later_hops_are_the_earlier_ones_to_resolve(policy: Policy, start_raw_server: Any, sshd: Sshd, ssh: OpenSsh) -> None:
    """Nor does the daemon's list of denied addresses speak of them: it does not connect there."""
    asked: list[tuple[bytes, int]] = []

    def script(served: RawServed) -> None:
        number, kind, rest = served.greet().login().take_open()
        assert kind == "direct-tcpip"
        asked.append((rest.string(), rest.u32()))
        served.send(bytes([92]) + u32(number) + u32(2) + string("no way") + string(""))
        served.drain()

    server = start_raw_server(script)
    first = hop(server.address, server.port, server.known_hosts, password="x")
    upstream_house(policy, first, hop("inside.invalid", 2200, sshd.known_hosts, password="x"))
    result = ssh.run("x")
    assert result.status == 255 and "no way" in result.err, result
    assert asked == [(b"inside.invalid", 2200)]


def test_the_way_is_shared_if_all_of_it_is_the_same(policy: Policy, chain: list[Sshd], raw: Raw, echo: int) -> None:  # noqa: F811
    upstream_house(policy, chain[0].hop(), chain[1].hop())
    client = raw().login()
    for i in range(3):
        client.send(open_tcp(client, "127.0.0.1", echo, i))
    for _ in range(3):
        client.until(91)
    assert [len(sshd.logins()) for sshd in chain] == [1, 1, 0]


def test_the_first_hop_dies(policy: Policy, daemon: Daemon, chain: list[Sshd], ssh: OpenSsh) -> None:
    upstream_house(policy, *(sshd.hop() for sshd in chain))
    before = descriptors(daemon)
    client = ssh.popen("echo up; exec cat")
    assert client.stdout.readline() == b"up\n"
    os.kill(chain[0].wait_connections(1)[0], signal.SIGKILL)
    out, err = client.communicate(timeout=PATIENCE_S)
    assert (client.returncode, out) == (255, b"") and err.strip(), err
    for sshd in chain:
        sshd.wait_connections(0)
    poll(lambda: descriptors(daemon) <= before, f"{before} descriptors again")


def test_a_wrong_hop_behind_a_shared_one(policy: Policy, chain: list[Sshd], raw: Raw, other_key: Key, echo: int) -> None:  # noqa: F811
    """What one answer may reach is nothing to another."""
    upstream_house(policy, chain[0].hop(), chain[1].hop())
    client = raw().login()
    client.send(open_tcp(client, "127.0.0.1", echo))
    client.until(91)
    upstream_house(policy, chain[0].hop(private_key=other_key.path.read_bytes()), chain[1].hop())
    code, reason = refusal(client, open_tcp(client, "127.0.0.1", echo, 1))
    assert code == 2 and chain[0].address in reason
    assert [len(sshd.logins()) for sshd in chain] == [1, 1, 0]
