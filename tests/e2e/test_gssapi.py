"""gssapi-with-mic (RFC 4462) against a real KDC: OpenSSH's client, and one that lies."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Callable, Iterator

import pytest

from harness import kdc as kdc_module
from harness.answers import PASSWORD, begin, key_no, key_ok, say, serve
from harness.clients import OpenSsh, Result
from harness.contract import pb
from harness.daemon import Daemon, run_once
from harness.gss import DELEGATE, INTEGRITY, KERBEROS, MUTUAL, Initiator
from harness.kdc import REALM, Kdc
from harness.keys import Key
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.wire import Reader, string, u32

GSSAPI = pb.AUTH_METHOD_GSSAPI_WITH_MIC
OID = b"\x06" + bytes([len(KERBEROS)]) + KERBEROS
SPNEGO = bytes.fromhex("06062b0601050502")
TOKEN, COMPLETE, ERROR, ERRTOK, MIC = 61, 63, 64, 65, 66
SUCCESS, FAILURE, RESPONSE = 51 + 1, 51, 60

pytestmark = pytest.mark.skipif(bool(kdc_module.missing()), reason=f"not installed (krb5-kdc, krb5-user): {kdc_module.missing()}")


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kdc]:
    realm = Kdc(tmp_path_factory.mktemp("kdc") / "realm")
    for name in ("alice", "root"):
        realm.add_user(name)
    for name in ("host/localhost", "host/other.test", "HTTP/localhost"):
        realm.add_service(name)
    yield realm
    realm.stop()


@pytest.fixture
def kdc(realm: Kdc, monkeypatch: pytest.MonkeyPatch) -> Kdc:
    """The realm, with alice's ticket; for our own process as well."""
    realm.kinit("alice")
    for name, value in realm.env.items():
        monkeypatch.setenv(name, value)
    return realm


def flags_of(kdc: Kdc, hostname: str = "localhost") -> list[str]:
    return ["--gssapi", "--gssapi-keytab", str(kdc.keytab), "--gssapi-hostname", hostname]


@pytest.fixture
def daemon(policy: Policy, kdc: Kdc, start_daemon: Callable[..., Daemon]) -> Daemon:
    policy.on.BeginAuth = begin(GSSAPI, PASSWORD)
    serve(policy, say(b"hello\n"))
    return start_daemon(*flags_of(kdc), env=kdc.env)


def login(ssh: OpenSsh, kdc: Kdc, user: str = "alice", *options: str) -> Result:
    settings = [
        "GSSAPIAuthentication=yes", "PreferredAuthentications=gssapi-with-mic", "HostName=localhost", "AddressFamily=inet",
        f"HostKeyAlias=[127.0.0.1]:{ssh.port}", *options,
    ]  # fmt: skip
    return ssh.run("true", user=user, env=kdc.env, options=tuple(word for s in settings for word in ("-o", s)))


# ---- OpenSSH


@pytest.mark.parametrize("delegate", ["no", "yes"])
def test_openssh_logs_in_with_a_ticket(policy: Policy, kdc: Kdc, daemon: Daemon, ssh: OpenSsh, delegate: str) -> None:
    policy.on.ValidateGssPrincipal = key_ok()
    result = login(ssh, kdc, "alice", f"GSSAPIDelegateCredentials={delegate}")
    assert (result.status, result.out) == (0, b"hello\n"), result
    question = policy.requests("ValidateGssPrincipal")[0]
    assert question.user_principal == f"alice@{REALM}"
    assert question.host_principal == f"host/localhost@{REALM}"
    assert question.context.user == "alice"
    factor = policy.requests("AuthCompleted")[0].context.passed[0]
    assert (factor.method, factor.gss_principal) == (GSSAPI, f"alice@{REALM}")
    daemon.wait_event("principal_accepted", principal=f"alice@{REALM}")


def test_the_default_allows_the_principals_own_name(policy: Policy, kdc: Kdc, daemon: Daemon, ssh: OpenSsh) -> None:
    assert login(ssh, kdc).status == 0
    assert len(policy.requests("ValidateGssPrincipal")) == 1


def test_t20_principal_is_not_the_user(policy: Policy, kdc: Kdc, daemon: Daemon, ssh: OpenSsh) -> None:
    """alice's ticket is no login as root, unless the policy says so."""
    result = login(ssh, kdc, "root")
    assert result.status == 255, result
    assert [q.context.user for q in policy.requests("ValidateGssPrincipal")] == ["root"]
    policy.on.ValidateGssPrincipal = key_no("not you")
    result = login(ssh, kdc, "root")
    assert result.status == 255 and "not you" in result.err
    assert "AuthCompleted" not in policy.names()


def test_t20_another_name_is_the_policys_to_allow(policy: Policy, kdc: Kdc, daemon: Daemon, ssh: OpenSsh) -> None:
    policy.on.ValidateGssPrincipal = lambda request, _: (
        key_ok() if (request.context.user, request.user_principal) == ("root", f"alice@{REALM}") else key_no()
    )
    assert login(ssh, kdc, "root").status == 0


def test_t20_not_configured_is_not_offered(
    policy: Policy, kdc: Kdc, start_daemon: Callable[..., Daemon], connect_ssh: Callable[[Daemon], OpenSsh]
) -> None:
    """Whatever the policy names: nothing is asked about a principal."""
    policy.on.BeginAuth = begin(GSSAPI, PASSWORD)
    policy.on.ValidateGssPrincipal = key_ok()
    daemon = start_daemon(env=kdc.env)
    result = login(connect_ssh(daemon), kdc)
    assert result.status == 255 and "Permission denied (password)" in result.err, result
    assert "ValidateGssPrincipal" not in policy.names()


def test_t20_a_policy_that_does_not_name_it_refuses_it(policy: Policy, kdc: Kdc, daemon: Daemon, ssh: OpenSsh) -> None:
    policy.on.BeginAuth = begin(PASSWORD)
    policy.on.ValidateGssPrincipal = key_ok()
    assert login(ssh, kdc).status == 255
    assert "ValidateGssPrincipal" not in policy.names()


def test_without_named_methods_the_configuration_offers_it(policy: Policy, kdc: Kdc, daemon: Daemon, ssh: OpenSsh) -> None:
    policy.on.BeginAuth = pb.BeginAuthAnswer()
    assert login(ssh, kdc).status == 0


def test_tickets_for_another_name_are_refused(
    policy: Policy, kdc: Kdc, start_daemon: Callable[..., Daemon], connect_ssh: Callable[[Daemon], OpenSsh]
) -> None:
    """The keytab has both keys; only the configured one is accepted, unless every one is."""
    policy.on.BeginAuth = begin(GSSAPI)
    serve(policy, say(b"hello\n"))
    strict = start_daemon(*flags_of(kdc, "other.test"), env=kdc.env)
    assert login(connect_ssh(strict), kdc).status == 255
    assert "ValidateGssPrincipal" not in policy.names()
    strict.wait_event("gssapi_failed")
    lax = start_daemon(*flags_of(kdc, "other.test"), "--gssapi-any-host", env=kdc.env)
    assert login(connect_ssh(lax), kdc).status == 0
    assert policy.requests("ValidateGssPrincipal")[0].host_principal == f"host/localhost@{REALM}"


def test_a_keytab_that_is_not_there_is_an_error_at_start(kdc: Kdc, work: Path) -> None:
    done = run_once("--policy", "unix:/none", "--gssapi", "--gssapi-keytab", str(work / "none"), "--check")
    assert done.returncode == 1
    assert "--gssapi-keytab" in done.stderr and "No such file" in done.stderr


def test_a_keytab_without_our_key_is_an_error_at_start(kdc: Kdc, host_key: Key) -> None:
    flags = ["--policy", "unix:/none", "--host-key", str(host_key.path), *flags_of(kdc, "third.test")]
    done = run_once(*flags, "--check", env=kdc.env)
    assert done.returncode == 1, done.stderr
    assert "--gssapi: keytab" in done.stderr and "host/third.test" in done.stderr


def test_a_keytab_that_goes_away_offers_no_exchange(
    policy: Policy, kdc: Kdc, work: Path, start_daemon: Callable[..., Daemon], connect_ssh: Callable[[Daemon], OpenSsh]
) -> None:
    policy.on.BeginAuth = begin(GSSAPI)
    serve(policy, say(b"hello\n"))
    keytab = Path(shutil.copy(kdc.keytab, work / "keytab"))
    daemon = start_daemon(*flags_of(kdc), "--gssapi-keytab", str(keytab), env=kdc.env)
    assert login(connect_ssh(daemon), kdc).status == 0
    keytab.unlink()
    assert login(connect_ssh(daemon), kdc).status == 255
    assert daemon.wait_event("gssapi_failed")["why"] == "no key to accept with"
    shutil.copy(kdc.keytab, keytab)  # it is read anew for each login
    assert login(connect_ssh(daemon), kdc).status == 0


# ---- a client that lies


class Dishonest:
    """One request, message by message."""

    def __init__(self, client: RawClient, user: str = "alice", service: str = "host@localhost") -> None:
        self.client, self.user = client, user
        self.initiator = Initiator(service)

    def offer(self, *oids: bytes) -> Reader:
        oids = oids or (OID,)
        return self.client.ask(self.client.auth_message(self.user, "gssapi-with-mic", u32(len(oids)) + b"".join(map(string, oids))))

    def send(self, kind: int, data: bytes) -> None:
        self.client.send(bytes([kind]) + string(data))

    def signed(self, user: str | None = None, session_id: bytes | None = None) -> bytes:
        return string(session_id or self.client.session_id) + self.client.auth_message(user or self.user, "gssapi-with-mic")

    def establish(self) -> None:
        assert self.offer().string() == OID
        token, _ = self.initiator.token()
        self.send(TOKEN, token)
        _, more = self.initiator.token(received=self.client.expect(TOKEN).string())
        assert not more


@pytest.fixture
def dishonest(raw: Callable[..., RawClient]) -> Callable[..., Dishonest]:
    def make(**how: str) -> Dishonest:
        client = raw()
        client.service()
        return Dishonest(client, **how)

    return make


def refused(policy: Policy, client: RawClient) -> None:
    assert client.expect(FAILURE, SUCCESS).type == FAILURE
    assert "ValidateGssPrincipal" not in policy.names()


def test_the_client_that_lies_can_be_honest(policy: Policy, daemon: Daemon, dishonest: Callable[..., Dishonest]) -> None:
    client = dishonest()
    client.establish()
    client.send(MIC, client.initiator.mic(client.signed()))
    assert client.client.verdict().type == SUCCESS


def test_token_and_code_may_come_together(policy: Policy, daemon: Daemon, dishonest: Callable[..., Dishonest]) -> None:
    """Without mutual authentication the client's context stands at once, and it need not wait."""
    client = dishonest()
    assert client.offer().type == RESPONSE
    token, more = client.initiator.token(flags=INTEGRITY)
    assert not more
    client.send(TOKEN, token)
    client.send(MIC, client.initiator.mic(client.signed()))
    assert client.client.until(SUCCESS, FAILURE).type == SUCCESS


@pytest.mark.parametrize("lie", ["user", "session", "bytes", "empty"])
def test_a_code_is_good_for_this_request_only(policy: Policy, daemon: Daemon, dishonest: Callable[..., Dishonest], lie: str) -> None:
    policy.on.ValidateGssPrincipal = key_ok()
    client = dishonest(user="root")
    client.establish()
    signed = {"user": client.signed(user="alice"), "session": client.signed(session_id=b"x" * 32)}.get(lie, client.signed())
    mic = client.initiator.mic(signed)
    client.send(MIC, {"bytes": mic[:-1] + bytes([mic[-1] ^ 1]), "empty": b""}.get(lie, mic))
    refused(policy, client.client)


def test_an_exchange_without_a_code_is_refused(policy: Policy, daemon: Daemon, dishonest: Callable[..., Dishonest]) -> None:
    policy.on.ValidateGssPrincipal = key_ok()
    client = dishonest()
    client.establish()
    client.client.send(bytes([COMPLETE]))
    refused(policy, client.client)


def test_a_ticket_is_good_once(policy: Policy, daemon: Daemon, dishonest: Callable[..., Dishonest]) -> None:
    """The replay cache: a token that was seen is not taken again, on any connection."""
    first, second = dishonest(), dishonest()
    first.offer(), second.offer()
    token, _ = first.initiator.token(flags=INTEGRITY)
    first.send(TOKEN, token)
    first.send(MIC, first.initiator.mic(first.signed()))
    assert first.client.until(SUCCESS, FAILURE).type == SUCCESS
    second.send(TOKEN, token)
    assert second.client.until(SUCCESS, FAILURE).type == FAILURE
    assert len(policy.requests("ValidateGssPrincipal")) == 1


def test_a_ticket_for_another_service_is_refused(
    policy: Policy, kdc: Kdc, start_daemon: Callable[..., Daemon]
) -> None:
    """A keytab may hold a web server's key as well; whoever can get tickets for that one gets nowhere here."""
    policy.on.BeginAuth = begin(GSSAPI)
    policy.on.ValidateGssPrincipal = key_ok()
    daemon = start_daemon(*flags_of(kdc), "--gssapi-any-host", env=kdc.env)
    client = RawClient(daemon.port)
    client.service()
    liar = Dishonest(client, service="HTTP@localhost")
    liar.offer()
    token, _ = liar.initiator.token(flags=INTEGRITY | DELEGATE | MUTUAL)
    liar.send(TOKEN, token)
    assert client.until(FAILURE, SUCCESS).type == FAILURE
    assert "ValidateGssPrincipal" not in policy.names()
    client.close()


@pytest.mark.parametrize("token", [b"", b"junk", b"\x60\x82\xff\xff", b"\0" * 65536], ids=["empty", "junk", "short", "long"])
def test_junk_is_no_token(policy: Policy, daemon: Daemon, dishonest: Callable[..., Dishonest], token: bytes) -> None:
    client = dishonest()
    client.offer()
    client.send(TOKEN, token)
    assert client.client.until(FAILURE, SUCCESS).type == FAILURE


def test_only_kerberos_is_spoken(policy: Policy, daemon: Daemon, dishonest: Callable[..., Dishonest]) -> None:
    client = dishonest()
    assert client.offer(SPNEGO).type == FAILURE
    assert client.offer(SPNEGO, OID).string() == OID


def test_no_code_without_a_context(policy: Policy, daemon: Daemon, dishonest: Callable[..., Dishonest]) -> None:
    client = dishonest()
    client.offer()
    client.send(MIC, b"x")
    refused(policy, client.client)
