"""Whom the daemon trusts to be the other server: only the answer's known_hosts text says, and without it no credential leaves."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from harness import wire
from harness.answers import hop, upstream_house
from harness.clients import OpenSsh
from harness.contract import pb
from harness.keys import Key, certify, make_key
from harness.policy import Policy
from harness.rawserver import RawServed, RawServer, ServerKey
from harness.softkeys import EcdsaKey
from harness.sshd import Sshd
from harness.wire import string

ECDSA = "ecdsa-sha2-nistp256 " + base64.b64encode(EcdsaKey().blob).decode()
CANARY = "cAnArY-never-sent"


def answer(served: RawServed) -> None:
    """Greets, lets anybody in, and runs everything with status 5."""
    number = served.greet().login().session()
    served.finish(number, 5)
    served.drain()


@pytest.fixture
def try_hosts(policy: Policy, ssh: OpenSsh, start_raw_server: Any, other_key: Key) -> Callable[..., tuple[bool, RawServer, Any]]:
    """try_hosts(text, key): a session at a server with that key, trusted by that text ("HOST" is its "[127.0.0.1]:port", "PORT" its
    port). Whether it was let through; if not, nothing may have been said to the server but to exchange keys."""

    def attempt(text: str, key: ServerKey | None = None, script: Callable[[RawServed], None] = answer, **fields: Any) -> Any:
        server = start_raw_server(script, key or ServerKey(other_key))
        hosts = text.replace("HOST", f"[127.0.0.1]:{server.port}").replace("PORT", str(server.port))
        upstream_house(policy, hop("127.0.0.1", server.port, hosts, **{"password": CANARY, **fields}))
        result = ssh.run("x")
        if result.status == 5:
            return True, server, result
        assert result.status == 255 and result.err.strip(), result
        for served in server.served:
            seen = [message.type for message in served.seen]
            assert set(seen) <= {wire.DISCONNECT, wire.EXT_INFO, wire.IGNORE, wire.DEBUG}, seen
            assert not any(CANARY.encode() in message.message for message in served.seen)
        return False, server, result

    return attempt


def trusted(outcome: tuple[bool, RawServer, Any]) -> bool:
    return outcome[0]


def hashed(text: str, folder: Path) -> str:
    """As `ssh-keygen -H` leaves the file."""
    path = folder / "to-hash"
    path.write_text(text)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(path)], check=True, capture_output=True)
    result = path.read_text()
    assert "|1|" in result and "127.0.0.1" not in result
    return result


GOOD = {
    "plain": "HOST {key}\n",
    "no newline at the end": "HOST {key}",
    "a comment behind": "HOST {key} somebody's comment here\n",
    "among others": "# a comment\n\nother.example {other}\nHOST {key}\nmore.example {other}\n",
    "several names": "a.example,HOST,b.example {key}\n",
    "a pattern": "[127.0.0.*]:PORT {key}\n",
    "question marks": "[127.0.0.?]:PORT {key}\n",
    "everything": "* {key}\n",
    "a second key of that type": "HOST {other}\nHOST {key}\n",
    "another type beside": "HOST {ecdsa}\nHOST {key}\n",
    "a line that is none": "HOST\n|1|x|y {key}\nnonsense\nHOST {key}\n",
    "another's key revoked": "@revoked * {other}\nHOST {key}\n",
    "spaces and tabs": "  HOST \t {key}\n",
    "carriage returns": "HOST {key}\r\n",
}


@pytest.mark.parametrize("what", GOOD)
def test_trusted(try_hosts: Any, other_key: Key, user_key: Key, what: str) -> None:
    assert trusted(try_hosts(GOOD[what].format(key=other_key.public, other=user_key.public, ecdsa=ECDSA)))


BAD = {
    "no text": "",
    "only comments": "# HOST {key}\n",
    "another host": "other.example {key}\n",
    "the name without the port": "127.0.0.1 {key}\n",
    "another port": "[127.0.0.1]:1 {key}\n",
    "a prefix of the name": "[127.0.0.1]:PORT0 {key}\n",
    "not this one": "!HOST,* {key}\n",
    "not this one, the other way round": "*,!HOST {key}\n",
    "another key": "HOST {other}\n",
    "another type": "HOST {ecdsa}\n",
    "revoked": "@revoked * {key}\nHOST {key}\n",
    "revoked below": "HOST {key}\n@revoked HOST {key}\n",
    "an authority's line": "@cert-authority HOST {key}\n",
    "an unknown marker": "@trusted HOST {key}\n",
    "an unreadable revocation": "HOST {key}\n@revoked * ssh-ed25519 nonsense\n",
    "a type that the key is not": "HOST ssh-rsa {blob}\n",
    "half of the key": "HOST ssh-ed25519 {half}\n",
    "more than the key": "HOST ssh-ed25519 {longer}\n",
    "a NUL before it": "\0HOST {key}\n",
    "one line of two": "HOST\n{key}\n",
}


@pytest.mark.parametrize("what", BAD)
def test_not_trusted(try_hosts: Any, other_key: Key, user_key: Key, what: str) -> None:
    """And nobody there learns who wanted to log in, or how."""
    blob = other_key.public.split()[1]
    longer = base64.b64encode(other_key.blob + b"\0").decode()
    text = BAD[what].format(key=other_key.public, other=user_key.public, ecdsa=ECDSA, blob=blob, half=blob[: len(blob) // 2], longer=longer)
    assert not trusted(try_hosts(text))


def test_what_the_user_is_told(try_hosts: Any, other_key: Key, user_key: Key) -> None:
    """A key that is not known, one that has changed, one that was revoked: three things."""
    words = [
        try_hosts(text)[2].err
        for text in (f"other.example {other_key.public}\n", f"HOST {user_key.public}\n", f"@revoked * {other_key.public}\nHOST {other_key.public}\n")
    ]
    assert len(set(words)) == 3, words
    assert "revoked" in words[2], words


def test_hashed_names(try_hosts: Any, work: Path, start_raw_server: Any, policy: Policy, ssh: OpenSsh, other_key: Key) -> None:
    server = start_raw_server(answer, ServerKey(other_key))
    for port, status in ((server.port, 5), (server.port - 1, 255)):
        text = hashed(f"[127.0.0.1]:{port} {other_key.public}\n", work)
        upstream_house(policy, hop("127.0.0.1", server.port, text, password="x"))
        assert ssh.run("x").status == status
        (work / "to-hash").unlink()


def test_port_22_is_known_by_the_bare_name(policy: Policy, ssh: OpenSsh, start_raw_server: Any, other_key: Key) -> None:
    address = f"127.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 256}.22"
    try:
        server = start_raw_server(answer, address=address, port=22)
    except PermissionError:
        pytest.skip("only root listens on port 22")
    upstream_house(policy, hop(address, 0, f"{address} {other_key.public}\n", password="x"))
    assert ssh.run("x").status == 5
    upstream_house(policy, hop(address, 22, f"[{address}]:2222 {other_key.public}\n", password="x"))
    assert ssh.run("x").status == 255
    assert len(server.served) <= 2


def test_the_name_of_the_answer_is_the_one_that_is_looked_up(policy: Policy, ssh: OpenSsh, start_raw_server: Any, other_key: Key) -> None:
    """Not the address that it resolves to, and whatever its case."""
    server = start_raw_server(answer)
    for host, line, status in (("localhost", "localhost", 5), ("localhost", "127.0.0.1", 255), ("LocalHost", "localhost", 5), ("localhost", "LOCALHOST", 5)):
        upstream_house(policy, hop(host, server.port, f"[{line}]:{server.port} {other_key.public}\n", password="x"))
        assert ssh.run("x").status == status, (host, line)


# ---- certificates of hosts


@pytest.fixture
def authority(work: Path) -> Key:
    return make_key(work / "ca")


@pytest.fixture
def server_key(work: Path) -> Key:
    return make_key(work / "server")


CERTIFICATES: dict[str, tuple[dict[str, Any], str, bool]] = {
    # what: how it was made, the text, whether it is trusted
    "good": ({}, "@cert-authority HOST {ca}\n", True),
    "for a pattern": ({}, "@cert-authority [127.0.0.*]:PORT {ca}\n", True),
    "for another port": ({}, "@cert-authority [127.0.0.*]:1 {ca}\n", False),
    "for every host": ({}, "@cert-authority * {ca}\n", True),
    "one of two authorities": ({}, "@cert-authority * {other}\n@cert-authority * {ca}\n", True),
    "another authority": ({}, "@cert-authority * {other}\n", False),
    "no authority": ({}, "HOST {ca}\n", False),
    "its own key in a plain line": ({}, "HOST {key}\n", False),
    "another host's": ({"principals": "other.example"}, "@cert-authority * {ca}\n", False),
    "one of its names": ({"principals": "other.example,127.0.0.1"}, "@cert-authority * {ca}\n", True),
    "no name": ({"principals": None}, "@cert-authority * {ca}\n", False),
    "expired": ({"valid": "20200101:20200102"}, "@cert-authority * {ca}\n", False),
    "not yet valid": ({"valid": "20900101:20900102"}, "@cert-authority * {ca}\n", False),
    "a user's": ({"host": False}, "@cert-authority * {ca}\n", False),
    "a revoked authority": ({}, "@cert-authority * {ca}\n@revoked * {ca}\n", False),
    "a revoked key": ({}, "@cert-authority * {ca}\n@revoked * {key}\n", False),
}


@pytest.mark.parametrize("what", CERTIFICATES)
def test_host_certificates(try_hosts: Any, authority: Key, server_key: Key, user_key: Key, what: str) -> None:
    made, text, expected = CERTIFICATES[what]
    key = certify(server_key, authority, **{"principals": "127.0.0.1", "host": True, **made})
    text = text.format(ca=authority.public, other=user_key.public, key=server_key.public)
    assert trusted(try_hosts(text, ServerKey(key, certified=True))) == expected


def test_a_certificate_of_sshd(policy: Policy, ssh: OpenSsh, start_sshd: Any, authority: Key, work: Path) -> None:
    """Which has the plain key, too: either may be known."""
    key = certify(make_key(work / "sshd-host"), authority, principals="127.0.0.1", host=True)
    sshd: Sshd = start_sshd(f"HostCertificate {key.path}-cert.pub", host_key=key)
    for text in (f"@cert-authority * {authority.public}\n", f"[127.0.0.1]:{sshd.port} {key.public}\n"):
        upstream_house(policy, sshd.hop(known_hosts=text))
        assert ssh.run("echo in").out == b"in\n"
    certify(key, authority, principals="elsewhere", host=True)
    expired: Sshd = start_sshd(f"HostCertificate {key.path}-cert.pub", host_key=key)
    upstream_house(policy, expired.hop(known_hosts=f"@cert-authority * {authority.public}\n"))
    assert ssh.run("echo in").status == 255
    assert not expired.logins()


@pytest.mark.parametrize("kind,bits", [("rsa", 3072), ("ecdsa", 256), ("ecdsa", 521)])
def test_other_kinds_of_host_keys(policy: Policy, ssh: OpenSsh, start_sshd: Any, work: Path, kind: str, bits: int) -> None:
    sshd: Sshd = start_sshd(host_key=make_key(work / "host", kind, bits))
    upstream_house(policy, sshd.hop())
    assert ssh.run("echo in").out == b"in\n"


def test_the_known_kind_is_asked_for(policy: Policy, ssh: OpenSsh, start_sshd: Any, work: Path, other_key: Key) -> None:
    """A server with several keys proves the one that is known, though it is not the one we like best."""
    rsa = make_key(work / "host-rsa", "rsa", 3072)
    sshd: Sshd = start_sshd(f"HostKey {rsa.path}", host_key=other_key)
    upstream_house(policy, sshd.hop(known_hosts=f"[127.0.0.1]:{sshd.port} {rsa.public}\n"))
    assert ssh.run("echo in").out == b"in\n"


# ---- servers that cheat


def test_a_signature_that_is_wrong(try_hosts: Any, other_key: Key) -> None:
    """It shows the known key, but does not have it."""

    def cheat(served: RawServed) -> None:
        served.signature = lambda exchange_hash: string("ssh-ed25519") + string(os.urandom(64))
        answer(served)

    assert not trusted(try_hosts(f"HOST {other_key.public}\n", script=cheat))


def test_a_signature_of_another_key(try_hosts: Any, user_key: Key, other_key: Key) -> None:
    def cheat(served: RawServed) -> None:
        served.signature = ServerKey(user_key).sign
        answer(served)

    assert not trusted(try_hosts(f"HOST {other_key.public}\n", script=cheat))


def test_another_key_with_new_keys(policy: Policy, ssh: OpenSsh, start_raw_server: Any, user_key: Key) -> None:
    """A server that was verified becomes another one in the middle: the end of it."""

    def cheat(served: RawServed) -> None:
        number = served.greet().login().session()
        served.key = ServerKey(user_key)
        served.exchange_keys()
        served.finish(number, 5)
        served.drain()

    server = start_raw_server(cheat)
    upstream_house(policy, hop(server.address, server.port, server.known_hosts, password="x"))
    result = ssh.run("x")
    assert result.status == 255 and result.err.strip(), result


def test_the_same_key_with_new_keys(try_hosts: Any, other_key: Key) -> None:
    def script(served: RawServed) -> None:
        number = served.greet().login().session()
        for _ in range(3):
            served.exchange_keys()
        served.finish(number, 5)
        served.drain()

    assert trusted(try_hosts(f"HOST {other_key.public}\n", script=script))


@pytest.mark.parametrize("credential", ["private key", "agent"])
def test_keys_are_not_shown_either(try_hosts: Any, user_key: Key, other_key: Key, credential: str) -> None:
    """Public keys and signatures are credentials as well."""
    fields = {"private_key": user_key.path.read_bytes()} if credential == "private key" else {"client_agent": pb.ClientAgent()}
    assert not trusted(try_hosts(f"other.example {other_key.public}\n", password=None, **fields))
