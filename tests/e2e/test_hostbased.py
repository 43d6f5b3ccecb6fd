"""Host-based login (RFC 4252 section 9): OpenSSH with its ssh-keysign, asyncssh, and a client that lies."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, Callable

import asyncssh
import pytest

from harness.answers import PASSWORD, PUBLICKEY, allow, begin, key_no, key_ok, partial, password_ok, say, serve
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon
from harness.keys import Key, certify, make_key
from harness.policy import Policy
from harness.rawclient import RawClient, UserKey
from harness.wait import PATIENCE_S
from harness.wire import string

HOSTBASED = pb.AUTH_METHOD_HOSTBASED
FAILURE, SUCCESS = 51, 52


def own_name() -> str:
    """What 127.0.0.1 is called here; the daemon finds the same."""
    try:
        return socket.getnameinfo(("127.0.0.1", 0), socket.NI_NAMEREQD)[0]
    except OSError:
        return ""


NAME = own_name()
pytestmark = pytest.mark.skipif(not NAME, reason="127.0.0.1 has no name on this machine")


@pytest.fixture
def daemon(policy: Policy, start_daemon: Callable[..., Daemon]) -> Daemon:
    policy.on.BeginAuth = begin(HOSTBASED, PASSWORD)
    serve(policy, say(b"hello\n"))
    return start_daemon()


@pytest.fixture
def client_key(work: Path) -> Key:
    return make_key(work / "client_host")


def trust(policy: Policy, key: Key) -> None:
    """This key is that host's."""
    blob = base64.b64decode(key.public.split()[1])
    policy.on.ValidateHostPublicKey = lambda request, _: (
        key_ok() if (request.key.blob, request.resolved_host) == (blob, NAME) else key_no()
    )


def with_asyncssh(daemon: Daemon, key: Key, user: str = "alice", **how: Any) -> str:
    """What a program says; asyncssh.PermissionDenied if there was no login."""

    async def main() -> str:
        options = {
            "username": user, "known_hosts": None, "client_keys": None, "agent_path": None, "config": None,
            "client_host_keys": [str(key.path)], "client_host": NAME, "client_username": "alice",
            "preferred_auth": "hostbased",
        } | how  # fmt: skip
        async with asyncssh.connect("127.0.0.1", daemon.port, **options) as connection:
            return str((await connection.run("x")).stdout)

    return asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def refused(daemon: Daemon, key: Key, **how: Any) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        with_asyncssh(daemon, key, **how)


# ---- OpenSSH: ssh asks ssh-keysign, which reads the machine's own configuration and keys


@pytest.fixture
def keysign(work: Path) -> Callable[[list[str]], list[str]]:
    """Runs a command where /etc/ssh is a folder of ours; the machine's is not touched."""
    if os.geteuid() != 0:
        pytest.skip("needs root to put another /etc/ssh before one process")
    if not shutil.which("unshare") or not Path("/usr/lib/openssh/ssh-keysign").exists():
        pytest.skip("unshare or ssh-keysign is not installed")
    folder = work / "etc-ssh"
    folder.mkdir()
    (folder / "ssh_config").write_text("EnableSSHKeysign yes\n")
    make_key(folder / "ssh_host_ed25519_key")

    def within(argv: list[str]) -> list[str]:
        return ["unshare", "-m", "sh", "-c", f'mount --bind {folder} /etc/ssh && exec "$@"', "sh", *argv]

    probe = subprocess.run(within(["true"]), capture_output=True, text=True, timeout=PATIENCE_S)
    if probe.returncode != 0:
        pytest.skip(f"no mount namespace here: {probe.stderr}")
    return within


def openssh(ssh: OpenSsh, keysign: Callable[[list[str]], list[str]], user: str) -> subprocess.CompletedProcess:
    options = ("-o", "HostbasedAuthentication=yes", "-o", "PreferredAuthentications=hostbased")
    return subprocess.run(
        keysign(ssh.argv("x", user=user, options=options)), env=ssh.env(), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=PATIENCE_S, start_new_session=True,
    )  # fmt: skip


def test_openssh_logs_in_by_its_host(policy: Policy, daemon: Daemon, ssh: OpenSsh, keysign: Any, work: Path) -> None:
    key = Key(work / "etc-ssh" / "ssh_host_ed25519_key")
    trust(policy, key)
    policy.on.ValidateHostBasedUser = key_ok()
    done = openssh(ssh, keysign, "alice")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    about_key, about_user = policy.requests("ValidateHostPublicKey")[0], policy.requests("ValidateHostBasedUser")[0]
    assert (about_key.resolved_host, about_key.claimed_host) == (NAME, NAME)
    assert (about_user.resolved_host, about_user.claimed_host, about_user.client_user) == (NAME, NAME, "root")
    factor = policy.requests("AuthCompleted")[0].context.passed[0]
    assert (factor.method, factor.client_host, factor.client_user) == (HOSTBASED, NAME, "root")
    assert factor.key.openssh == key.public
    daemon.wait_event("host_accepted", host=NAME, client_user="root")


def test_openssh_default_is_equal_names(policy: Policy, daemon: Daemon, ssh: OpenSsh, keysign: Any, work: Path) -> None:
    trust(policy, Key(work / "etc-ssh" / "ssh_host_ed25519_key"))
    assert openssh(ssh, keysign, "alice").returncode == 255
    assert openssh(ssh, keysign, "root").returncode == 0
    assert [q.context.user for q in policy.requests("ValidateHostBasedUser")] == ["alice", "root"]


def test_openssh_with_a_host_certificate(policy: Policy, daemon: Daemon, ssh: OpenSsh, keysign: Any, work: Path) -> None:
    key, ca = Key(work / "etc-ssh" / "ssh_host_ed25519_key"), make_key(work / "ca")
    certify(key, ca, principals=NAME, host=True)
    policy.on.ValidateHostCaKey = lambda request, _: key_ok() if request.key.openssh == ca.public else key_no()
    done = openssh(ssh, keysign, "root")
    assert done.returncode == 0, done.stderr
    assert list(policy.requests("ValidateHostCaKey")[0].certificate.principals) == [NAME]


# ---- asyncssh


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_asyncssh_logs_in_by_its_host(policy: Policy, daemon: Daemon, work: Path, kind: str) -> None:
    key = make_key(work / "client_host", kind, 3072 if kind == "rsa" else 0)
    trust(policy, key)
    assert with_asyncssh(daemon, key) == "hello\n"
    question = policy.requests("ValidateHostPublicKey")[0]
    assert question.key.openssh == key.public and not question.HasField("certificate")
    assert policy.names().index("ValidateHostPublicKey") < policy.names().index("ValidateHostBasedUser")


def test_nobody_knows_this_host(policy: Policy, daemon: Daemon, client_key: Key, other_key: Key) -> None:
    refused(daemon, client_key)  # no handler: the default is no
    trust(policy, other_key)
    refused(daemon, client_key)
    assert "ValidateHostBasedUser" not in policy.names()


def test_the_name_of_the_peer_counts(policy: Policy, daemon: Daemon, client_key: Key) -> None:
    """A host that claims another name is refused before anybody is asked."""
    trust(policy, client_key)
    policy.on.ValidateHostBasedUser = key_ok()
    refused(daemon, client_key, client_host="trusted.example")
    refused(daemon, client_key, client_host="127.0.0.1")
    line = daemon.wait_event("host_names_differ")
    assert (line["resolved"], line["claimed"]) == (NAME, "trusted.example")
    assert "ValidateHostPublicKey" not in policy.names()


def test_the_claimed_name_counts_if_configured(
    policy: Policy, start_daemon: Callable[..., Daemon], client_key: Key
) -> None:
    policy.on.BeginAuth = begin(HOSTBASED)
    serve(policy, say(b"hello\n"))
    policy.on.ValidateHostPublicKey = key_ok()
    daemon = start_daemon("--hostbased-trust-claimed-host")
    assert with_asyncssh(daemon, client_key, client_host="trusted.example.") == "hello\n"
    for name in ("ValidateHostPublicKey", "ValidateHostBasedUser"):
        question = policy.requests(name)[0]
        assert (question.resolved_host, question.claimed_host) == (NAME, "trusted.example")


def test_names_have_no_case(policy: Policy, daemon: Daemon, client_key: Key) -> None:
    trust(policy, client_key)
    assert with_asyncssh(daemon, client_key, client_host=NAME.upper() + ".") == "hello\n"


def test_the_user_is_asked_about_last(policy: Policy, daemon: Daemon, client_key: Key) -> None:
    trust(policy, client_key)
    refused(daemon, client_key, client_username="mallory")  # default: equal names
    policy.on.ValidateHostBasedUser = lambda request, _: key_ok() if request.client_user == "mallory" else key_no()
    refused(daemon, client_key)
    assert with_asyncssh(daemon, client_key, client_username="mallory") == "hello\n"


def test_what_either_answer_restricts_holds(policy: Policy, daemon: Daemon, client_key: Key) -> None:
    policy.on.ValidateHostPublicKey = pb.AuthAnswer(allow=allow(restrictions=pb.Restrictions(force_command=b"first")))
    assert with_asyncssh(daemon, client_key) == "hello\n"
    assert policy.requests("AuthCompleted")[0].restrictions.force_command == b"first"
    elsewhere = pb.Restrictions(source_addresses=pb.Patterns(patterns=["192.0.2.0/24"]))
    policy.on.ValidateHostPublicKey = pb.AuthAnswer(allow=allow(restrictions=elsewhere))
    policy.on.ValidateHostBasedUser = key_ok()
    refused(daemon, client_key)


def test_a_host_may_be_half_of_a_login(policy: Policy, daemon: Daemon, client_key: Key) -> None:
    policy.on.ValidatePassword = password_ok()
    policy.on.ValidateHostPublicKey = pb.AuthAnswer(partial=partial(PASSWORD))
    how = {"preferred_auth": "hostbased,password", "password": "x"}
    refused(daemon, client_key, password="x")
    assert with_asyncssh(daemon, client_key, **how) == "hello\n"
    passed = [factor.method for factor in policy.requests("AuthCompleted")[0].context.passed]
    assert passed == [HOSTBASED, PASSWORD]


def test_not_offered_is_not_looked_at(policy: Policy, daemon: Daemon, client_key: Key) -> None:
    trust(policy, client_key)
    policy.on.BeginAuth = begin(PUBLICKEY)
    refused(daemon, client_key)
    policy.on.BeginAuth = pb.BeginAuthAnswer()
    policy.on.HostBasedAuthSupported = pb.SupportedAnswer(support=pb.SUPPORT_NO)
    refused(daemon, client_key)
    assert "ValidateHostPublicKey" not in policy.names()
    policy.on.HostBasedAuthSupported = pb.SupportedAnswer(support=pb.SUPPORT_YES)
    assert with_asyncssh(daemon, client_key) == "hello\n"


def test_a_revoked_key_is_no_hosts(policy: Policy, daemon: Daemon, client_key: Key) -> None:
    trust(policy, client_key)
    policy.on.BeginAuth = begin(HOSTBASED, revoked_keys=client_key.public.encode())
    refused(daemon, client_key)
    assert "ValidateHostPublicKey" not in policy.names()


# ---- certificates

CERTIFICATES = {
    "good": (True, dict(principals=NAME, host=True)),
    "among others": (True, dict(principals=f"other.example,{NAME}", host=True)),
    "another host's": (False, dict(principals="other.example", host=True)),
    "a pattern": (False, dict(principals="*", host=True)),
    "nobody's": (False, dict(principals=None, host=True)),
    "a user's": (False, dict(principals=NAME, host=False)),
    "expired": (False, dict(principals=NAME, host=True, valid="20200101:20210101")),
    "not yet": (False, dict(principals=NAME, host=True, valid="20900101:20910101")),
}


@pytest.mark.parametrize("case", CERTIFICATES)
def test_asyncssh_with_a_certificate(policy: Policy, daemon: Daemon, work: Path, client_key: Key, case: str) -> None:
    good, how = CERTIFICATES[case]
    ca = make_key(work / "ca")
    certify(client_key, ca, **how)
    policy.on.ValidateHostCaKey = lambda request, _: key_ok() if request.key.openssh == ca.public else key_no()
    policy.on.ValidateHostPublicKey = key_no()
    certificates = {"client_host_keys": [(str(client_key.path), str(client_key.path) + "-cert.pub")]}
    if not good:
        refused(daemon, client_key, **certificates)
        assert "ValidateHostBasedUser" not in policy.names()
        return
    assert with_asyncssh(daemon, client_key, **certificates) == "hello\n"
    question = policy.requests("ValidateHostCaKey")[0]
    assert question.certificate.type == "host" and question.certificate.blob == client_key.certificate
    assert policy.requests("AuthCompleted")[0].context.passed[0].certificate.blob == client_key.certificate


def test_an_authority_that_nobody_trusts(policy: Policy, daemon: Daemon, work: Path, client_key: Key) -> None:
    certify(client_key, make_key(work / "ca"), principals=NAME, host=True)
    refused(daemon, client_key, client_host_keys=[(str(client_key.path), str(client_key.path) + "-cert.pub")])
    assert "ValidateHostBasedUser" not in policy.names()


# ---- a client that lies


def vouch(client: RawClient, key: UserKey, *, user: str = "alice", host: str = NAME + ".", client_user: str = "alice", signed: dict[str, Any] = {}) -> int:
    """The type of the reply; what `signed` names is another thing in what the host signed."""

    def rest(host: str, client_user: str) -> bytes:
        return string(key.algorithm) + string(key.blob) + string(host) + string(client_user)

    data = string(signed.get("session_id", client.session_id)) + client.auth_message(
        signed.get("user", user), signed.get("method", "hostbased"), rest(signed.get("host", host), signed.get("client_user", client_user))
    )
    signature = string(signed.get("signer", key).sign(data))
    return client.ask(client.auth_message(user, "hostbased", rest(host, client_user) + signature)).type


@pytest.fixture
def liar(policy: Policy, raw: Callable[..., RawClient]) -> RawClient:
    """Of a host whose key everybody trusts."""
    policy.on.ValidateHostPublicKey = policy.on.ValidateHostBasedUser = key_ok()
    client = raw()
    client.service()
    return client


LIES: dict[str, dict[str, Any]] = {
    "the user": {"user": "root"},
    "the host": {"host": "other.example."},
    "the user of the host": {"client_user": "root"},
    "the session": {"session_id": b"x" * 32},
    "the method": {"method": "publickey"},
    "the key": {"signer": UserKey()},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_signature_covers_all_of_it(policy: Policy, daemon: Daemon, liar: RawClient, lie: str) -> None:
    assert vouch(liar, UserKey(), signed=LIES[lie]) == FAILURE
    assert policy.names().count("ValidateHostPublicKey") == 1 and "ValidateHostBasedUser" not in policy.names()


def test_the_liar_can_be_honest(policy: Policy, daemon: Daemon, liar: RawClient) -> None:
    assert vouch(liar, UserKey()) == SUCCESS


def test_bad_signatures_count(policy: Policy, daemon: Daemon, liar: RawClient) -> None:
    for _ in range(5):
        assert vouch(liar, UserKey(), signed={"signer": UserKey()}) == FAILURE
    liar.send(liar.auth_message("alice", "hostbased", b"".join(map(string, (b"ssh-ed25519", UserKey().blob, NAME, "alice", b"x")))))
    assert liar.expect_end()
