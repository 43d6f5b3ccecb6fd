"""Credentials for other servers come with answers: once used they are in no memory, and at no time in any log."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from test_direct import free_port, open_tcp

from harness.answers import accept, cat, hop, password_house, serve, upstream, upstream_house
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon, is_sanitized
from harness.keys import Key, make_key
from harness.memory import memory_holds
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.rawserver import RawServed
from harness.sshd import Sshd, host_line
from harness.wait import poll

CANARY = "cAnArY-up-51c7e2"


def pieces(key: Key) -> list[bytes]:
    """Parts of a private key that nobody else has, in the forms in which memory could hold them."""
    private = load_ssh_private_key(key.path.read_bytes(), None)
    if isinstance(private, rsa.RSAPrivateKey):
        numbers = private.private_numbers()
        secrets = [n.to_bytes((n.bit_length() + 7) // 8, "big") for n in (numbers.d, numbers.p, numbers.q)]
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        secrets = [private.private_numbers().private_value.to_bytes(32, "big")]
    else:
        secrets = [private.private_bytes_raw()]
    # Limbs of a number lie the other way round.
    text = key.path.read_bytes().splitlines()
    return [part for secret in secrets for part in (secret, secret[::-1])] + text[2:-2]


def wait_forgotten(daemon: Daemon, *secrets: bytes) -> None:
    poll(lambda: not memory_holds(daemon.pid, *secrets), "all secrets gone from memory", every=0.2)


@pytest.fixture
def can_look(daemon: Daemon) -> None:
    if is_sanitized(daemon.pid):
        pytest.skip("a sanitizer build")
    try:
        assert memory_holds(daemon.pid, b"127.0.0.1"), "the search does not work"
    except PermissionError:
        pytest.skip("nobody but root may look into the daemon")


@pytest.fixture
def far(work: Path, start_daemon: Any, host_key: Key) -> Iterator[Callable[..., Any]]:
    """A hop to another parleyd, which wants the password."""
    with Policy(f"unix:{work}/far.sock") as far_policy:
        password_house(far_policy, password=CANARY)
        serve(far_policy, cat)
        far_policy.on.ConnectionRequested = pb.OpenAnswer(stream=pb.StreamEndpoint())
        daemon = start_daemon(policy=far_policy.target)
        yield lambda **fields: hop("127.0.0.1", daemon.port, host_line("127.0.0.1", daemon.port, host_key.public), **fields)


def hold_session(raw: Callable[..., RawClient]) -> RawClient:
    client = raw().login()
    client.data(client.execute("cat"), b"up")
    assert client.until(94).message.endswith(b"up")
    return client


@pytest.mark.parametrize("chosen", ["with the program", "with the session", "for a direct channel"])
def test_a_password_that_is_right(policy: Policy, can_look: None, far: Any, daemon: Daemon, raw: Any, chosen: str) -> None:
    """While what came of it lives."""
    upstream_house(policy, far(password=CANARY))
    if chosen == "with the session":
        policy.on.SessionRequested, policy.on.ExecRequested = upstream(far(password=CANARY)), accept()
    if chosen == "for a direct channel":
        client = raw().login()
        client.send(open_tcp(client, "host.example", 80))
        client.until(91)
        client.data(0, b"up")
        assert client.until(94).message.endswith(b"up")
    else:
        hold_session(raw)
    wait_forgotten(daemon, CANARY.encode())


def test_a_password_that_is_wrong(policy: Policy, can_look: None, far: Any, daemon: Daemon, ssh: OpenSsh) -> None:
    upstream_house(policy, far(password=CANARY + "-not"))
    assert ssh.run("x").status == 255
    wait_forgotten(daemon, CANARY.encode())


@pytest.mark.parametrize("where", ["down", "silent", "untrusted", "refused answer", "second hop", "client goes"])
def test_a_password_that_is_never_used(
    policy: Policy, can_look: None, daemon: Daemon, raw: Any, ssh: OpenSsh, start_raw_server: Any, other_key: Key, where: str
) -> None:
    def script(served: RawServed) -> None:
        if where in ("silent", "client goes"):
            while served.socket.recv(4096):
                pass
        served.greet().drain()

    server = start_raw_server(script)
    good = hop(server.address, server.port, server.known_hosts, password=CANARY, connect_timeout_s=1 if where == "silent" else 0)
    upstream_house(policy, good)
    if where == "down":
        upstream_house(policy, hop("127.0.0.1", free_port(), f"* {other_key.public}\n", password=CANARY))
    elif where == "untrusted":
        upstream_house(policy, hop(server.address, server.port, f"other.example {other_key.public}\n", password=CANARY))
    elif where == "refused answer":
        upstream_house(policy, good, hop("", 1, "", password=CANARY))
    elif where == "second hop":
        upstream_house(policy, hop("127.0.0.1", free_port(), f"* {other_key.public}\n", password=CANARY), good)
    if where == "client goes":
        client = raw().login()
        client.execute("x")
        server.wait_served()
        client.close()
    else:
        assert ssh.run("x").status != 0
    wait_forgotten(daemon, CANARY.encode())


@pytest.mark.parametrize("kind,bits", [("ed25519", 0), ("rsa", 3072), ("ecdsa", 256)])
@pytest.mark.parametrize("right", [True, False])
def test_private_keys(
    policy: Policy, can_look: None, daemon: Daemon, start_sshd: Any, raw: Any, ssh: OpenSsh, work: Path, user_key: Key, kind: str, bits: int, right: bool
) -> None:
    key = make_key(work / "secret", kind, bits)
    sshd: Sshd = start_sshd(user_key=key if right else user_key)
    upstream_house(policy, sshd.hop(private_key=key.path.read_bytes()))
    if right:
        hold_session(raw)
    else:
        assert ssh.run("x").status == 255
    wait_forgotten(daemon, *pieces(key))


def test_the_search_finds_keys(daemon: Daemon, can_look: None, host_key: Key) -> None:
    """Its own host key the daemon must have."""
    assert memory_holds(daemon.pid, *pieces(host_key))


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_log_tells(policy: Policy, far: Any, start_daemon: Any, sshd: Sshd, host_key: Key, user_key: Key, work: Path, log_format: str) -> None:
    """At its most talkative, whatever becomes of the login."""
    daemon = start_daemon("--log-level", "debug", "--log-format", log_format, ready=False)
    daemon.wait_text("ready")
    found = re.search(r"127\.0\.0\.1:(\d+)", daemon.wait_text("listening"))
    assert found
    ssh = OpenSsh(int(found[1]), work, host_key)
    closed = free_port()
    for answer in (
        [far(password=CANARY)],
        [far(password=CANARY + "-not")],
        [hop("127.0.0.1", closed, f"* {user_key.public}", password=CANARY)],
        [hop("", closed, "", password=CANARY)],
        [sshd.hop(password=CANARY)],
        [sshd.hop(private_key=CANARY.encode())],
        [sshd.hop()],
        [sshd.hop(certificate=CANARY.encode())],
        [sshd.hop(), far(password=CANARY)],
    ):
        upstream_house(policy, *answer)
        ssh.run("x")
    daemon.wait_text("closed")
    log = daemon.log.lower()
    for secret in (CANARY, CANARY.encode().hex(), base64.b64encode(CANARY.encode()).decode()):
        assert secret.lower() not in log
    for line in user_key.path.read_text().splitlines()[1:-1]:
        assert line.lower() not in log
