"""GSSAPI key exchange (RFC 4462 section 2, RFC 8732) and gssapi-keyex, with Debian's OpenSSH, which has them."""

from __future__ import annotations

import subprocess
from typing import Any, Callable, Iterator

import pytest

from harness import kdc as kdc_module
from harness import wire
from harness.answers import PASSWORD, begin, key_no, key_ok, password_house, say, serve
from harness.clients import OpenSsh, Result
from harness.contract import pb
from harness.daemon import Daemon, run_once
from harness.gss import INTEGRITY, Initiator
from harness.kdc import REALM, Kdc
from harness.keys import Key
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.wire import string

KEYEX = pb.AUTH_METHOD_GSSAPI_KEYEX
SUFFIX = "-toWM5Slw5Ew8Mqkay+al2g=="
METHODS = ("gss-curve25519-sha256", "gss-nistp256-sha256")


def client_has_it() -> bool:
    """Debian's patch; upstream's client does not know the option."""
    done = subprocess.run(["ssh", "-F", "none", "-G", "-o", "GSSAPIKeyExchange=yes", "x"], capture_output=True, stdin=subprocess.DEVNULL)
    return done.returncode == 0


pytestmark = [
    pytest.mark.skipif(bool(kdc_module.missing()), reason=f"not installed (krb5-kdc, krb5-user): {kdc_module.missing()}"),
    pytest.mark.skipif(not client_has_it(), reason="this ssh has no GSSAPI key exchange"),
]


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kdc]:
    realm = Kdc(tmp_path_factory.mktemp("kdc") / "realm")
    realm.add_user("alice")
    realm.add_service("host/localhost")
    yield realm
    realm.stop()


@pytest.fixture
def kdc(realm: Kdc) -> Kdc:
    realm.kinit("alice")
    return realm


def flags_of(kdc: Kdc) -> list[str]:
    return ["--gssapi", "--gssapi-keytab", str(kdc.keytab), "--gssapi-hostname", "localhost", "--gssapi-key-exchange"]


@pytest.fixture
def daemon(policy: Policy, kdc: Kdc, start_daemon: Callable[..., Daemon]) -> Daemon:
    policy.on.BeginAuth = begin(KEYEX, PASSWORD)
    serve(policy, say(b"hello\n"))
    return start_daemon(*flags_of(kdc), env=kdc.env)


def login(ssh: OpenSsh, kdc: Kdc, user: str = "alice", *options: str, command: str = "true", **how: Any) -> Result:
    settings = [
        *options, "GSSAPIAuthentication=yes", "GSSAPIKeyExchange=yes", "PreferredAuthentications=gssapi-keyex",
        "HostName=localhost", "AddressFamily=inet", f"HostKeyAlias=[127.0.0.1]:{ssh.port}",
    ]  # fmt: skip
    return ssh.run(command, user=user, env=kdc.env, options=tuple(word for s in settings for word in ("-o", s)), **how)


@pytest.mark.parametrize("method", METHODS)
def test_openssh_logs_in_by_the_key_exchange(policy: Policy, kdc: Kdc, daemon: Daemon, ssh: OpenSsh, method: str) -> None:
    result = login(ssh, kdc, "alice", f"GSSAPIKexAlgorithms={method}-")
    assert (result.status, result.out) == (0, b"hello\n"), result
    assert daemon.wait_event("keys_exchanged")["algorithms"].startswith(f"kex={method}{SUFFIX} ")
    question = policy.requests("ValidateGssPrincipal")[0]
    assert (question.user_principal, question.host_principal) == (f"alice@{REALM}", f"host/localhost@{REALM}")
    factor = policy.requests("AuthCompleted")[0].context.passed[0]
    assert (factor.method, factor.gss_principal) == (KEYEX, f"alice@{REALM}")


def test_t20_principal_is_not_the_user(policy: Policy, kdc: Kdc, daemon: Daemon, ssh: OpenSsh) -> None:
    assert login(ssh, kdc, "root").status == 255
    policy.on.ValidateGssPrincipal = key_no()
    assert login(ssh, kdc, "alice").status == 255
    assert "AuthCompleted" not in policy.names()
    policy.on.ValidateGssPrincipal = key_ok()
    assert login(ssh, kdc, "root").status == 0


def test_keys_are_exchanged_again(policy: Policy, kdc: Kdc, daemon: Daemon, ssh: OpenSsh) -> None:
    """Each exchange makes a context of its own; the session goes on."""
    data = bytes(range(256)) * 4096

    async def cat(channel: Any) -> None:
        while piece := await channel.read_data():
            await channel.write(piece)
        await channel.exit(0)

    serve(policy, cat)
    result = login(ssh, kdc, "alice", "RekeyLimit=128K", command="cat", stdin=data)
    assert result.status == 0 and result.out == data, result.err


def test_other_methods_of_login_work_after_it(policy: Policy, kdc: Kdc, daemon: Daemon, ssh: OpenSsh) -> None:
    password_house(policy)
    result = login(ssh, kdc, "alice", "PreferredAuthentications=password", password="wonderland")
    assert result.status == 0, result
    assert "kex=gss-" in daemon.wait_event("keys_exchanged")["algorithms"]


def test_keyex_needs_its_key_exchange(policy: Policy, daemon: Daemon, raw: Callable[..., RawClient]) -> None:
    """After another one it is not offered, whatever the policy names."""
    client = raw()
    client.service()
    assert client.try_none().names() == ["password"]
    assert client.ask(client.auth_message("alice", "gssapi-keyex", string("x" * 28))).type == wire.USERAUTH_FAILURE
    assert "ValidateGssPrincipal" not in policy.names()


def test_not_configured_is_not_offered(
    policy: Policy, kdc: Kdc, start_daemon: Callable[..., Daemon], connect_ssh: Callable[[Daemon], OpenSsh]
) -> None:
    policy.on.BeginAuth = begin(KEYEX, PASSWORD)
    daemon = start_daemon(*flags_of(kdc)[:-1], env=kdc.env)
    assert login(connect_ssh(daemon), kdc).status == 255
    assert "kex=gss-" not in daemon.wait_event("keys_exchanged")["algorithms"]
    assert "ValidateGssPrincipal" not in policy.names()


def test_it_needs_gssapi(kdc: Kdc, host_key: Key) -> None:
    done = run_once("--policy", "unix:/none", "--host-key", str(host_key.path), "--gssapi-key-exchange", "--check")
    assert done.returncode == 1 and "needs auth.gssapi" in done.stderr


# ---- clients that lie, before any login


class GssRaw(RawClient):
    """Up to the message that a helper looks at."""

    def __init__(self, port: int) -> None:
        super().__init__(port, keys=False)
        self.socket.sendall(self.client_version + b"\r\n")
        self.server_version = self.read_line()
        self.send(self._kexinit())
        self._until(wire.KEXINIT)

    def _kexinit(self) -> bytes:
        return super()._kexinit().replace(string("curve25519-sha256,ext-info-c"), string(METHODS[0] + SUFFIX))

    def init(self, token: bytes, key: bytes = b"\x09" + bytes(31), rest: bytes = b"") -> None:
        self.send(bytes([wire.KEX_ECDH_INIT]) + string(token) + string(key) + rest)


@pytest.fixture
def liar(kdc: Kdc, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], GssRaw]]:
    for name, value in kdc.env.items():
        monkeypatch.setenv(name, value)
    clients: list[GssRaw] = []

    def connect() -> GssRaw:
        clients.append(GssRaw(daemon.port))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.mark.parametrize("token", [b"junk", b"\x60\x82\xff\xff", b"\0" * 30000], ids=["junk", "short", "long"])
def test_junk_is_no_token(liar: Callable[[], GssRaw], token: bytes) -> None:
    client = liar()
    client.init(token)
    assert client.expect_disconnect().code == 3  # KEY_EXCHANGE_FAILED


@pytest.mark.parametrize("what", ["no token", "leftover", "long key", "cut"])
def test_a_malformed_message_is_refused_at_once(liar: Callable[[], GssRaw], what: str) -> None:
    client = liar()
    if what == "no token":
        client.init(b"")
    elif what == "leftover":
        client.init(b"x", rest=b"x")
    elif what == "long key":
        client.init(b"x", bytes(2000))
    else:
        client.send(bytes([wire.KEX_ECDH_INIT]) + b"\0\0\0\x09abc")
    assert client.expect_disconnect().code == 2


@pytest.mark.parametrize("key", [b"", bytes(32), b"\x09" + bytes(30)], ids=["none", "zero", "short"])
def test_a_good_token_and_a_bad_public_key(liar: Callable[[], GssRaw], key: bytes) -> None:
    client = liar()
    client.init(Initiator("host@localhost").token()[0], key)
    assert client.expect_disconnect().code == 3


def test_without_mutual_authentication_there_are_no_keys(liar: Callable[[], GssRaw]) -> None:
    client = liar()
    client.init(Initiator("host@localhost").token(flags=INTEGRITY)[0])
    assert client.expect_disconnect().code == 3


def test_a_second_one_beside_the_first_is_refused(liar: Callable[[], GssRaw]) -> None:
    """What comes while a helper works waits; then it is out of order."""
    client = liar()
    client.init(b"junk")
    client.init(b"junk")
    assert client.expect_disconnect().code in (2, 3)


def test_clients_that_leave_while_a_helper_works(
    policy: Policy, kdc: Kdc, daemon: Daemon, ssh: OpenSsh, liar: Callable[[], GssRaw]
) -> None:
    for _ in range(30):
        client = liar()
        client.init(Initiator("host@localhost").token()[0])
        client.close()
    assert login(ssh, kdc).status == 0
