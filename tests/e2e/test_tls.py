"""TLS to the policy: the daemon asks only whom its CA vouches for, and shows its own certificate where one is wanted."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from harness.answers import open_house, say
from harness.clients import OpenSsh
from harness.daemon import Daemon
from harness.policy import Policy


@dataclass
class Pair:
    """A certificate and its key, as PEM and as files."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    path: Path

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(encoding, form, serialization.NoEncryption())

    @property
    def cert_file(self) -> str:
        return str(self.path.with_suffix(".crt"))

    @property
    def key_file(self) -> str:
        return str(self.path.with_suffix(".key"))


def make(path: Path, name: str, issuer: Pair | None = None, days: int = 1) -> Pair:
    """A CA if nobody issues it, else a certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=3))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer:
        addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))] if name != "elsewhere" else [x509.DNSName("elsewhere.example")]
        builder = builder.add_extension(x509.SubjectAlternativeName(addresses), critical=False)
    pair = Pair(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key, path)
    Path(pair.cert_file).write_bytes(pair.pem)
    Path(pair.key_file).write_bytes(pair.key_pem)
    Path(pair.key_file).chmod(0o600)
    return pair


@dataclass
class Pki:
    ca: Pair
    server: Pair
    client: Pair
    other_ca: Pair


@pytest.fixture
def pki(work: Path) -> Pki:
    ca = make(work / "ca", "ca")
    return Pki(ca, make(work / "server", "server", ca), make(work / "client", "client", ca), make(work / "other", "other ca"))


def serve(pki: Pki, server: Pair | None = None, mutual: bool = False) -> Policy:
    pair = server or pki.server
    credentials = grpc.ssl_server_credentials([(pair.key_pem, pair.pem)], pki.ca.pem if mutual else None, mutual)
    return open_house(Policy("127.0.0.1:0", credentials=credentials), say(b"in\n"))


Connect = Callable[[Daemon], OpenSsh]


def test_tls(pki: Pki, start_daemon: Callable[..., Daemon], connect_ssh: Connect) -> None:
    with serve(pki) as policy:
        daemon = start_daemon("--policy-ca", pki.ca.cert_file, policy=policy.target)
        assert connect_ssh(daemon).run("x").out == b"in\n"


def test_mutual_tls(pki: Pki, start_daemon: Callable[..., Daemon], connect_ssh: Connect) -> None:
    with serve(pki, mutual=True) as policy:
        flags = ("--policy-ca", pki.ca.cert_file, "--policy-cert", pki.client.cert_file, "--policy-key", pki.client.key_file)
        assert connect_ssh(start_daemon(*flags, policy=policy.target)).run("x").out == b"in\n"


def expect_nobody_in(policy: Policy, ssh: OpenSsh) -> None:
    result = ssh.run("x")
    assert result.status == 255 and "policy" in result.err.lower(), result
    assert not policy.calls


def test_mutual_tls_without_our_certificate(pki: Pki, start_daemon: Callable[..., Daemon], connect_ssh: Connect) -> None:
    with serve(pki, mutual=True) as policy:
        expect_nobody_in(policy, connect_ssh(start_daemon("--policy-ca", pki.ca.cert_file, policy=policy.target)))


def test_another_ca(pki: Pki, start_daemon: Callable[..., Daemon], connect_ssh: Connect) -> None:
    with serve(pki) as policy:
        expect_nobody_in(policy, connect_ssh(start_daemon("--policy-ca", pki.other_ca.cert_file, policy=policy.target)))


@pytest.mark.parametrize("name,days", [("elsewhere", 1), ("server", -1)], ids=["other-name", "expired"])
def test_wrong_certificates(pki: Pki, work: Path, start_daemon: Callable[..., Daemon], connect_ssh: Connect, name: str, days: int) -> None:
    with serve(pki, make(work / "wrong", name, pki.ca, days)) as policy:
        expect_nobody_in(policy, connect_ssh(start_daemon("--policy-ca", pki.ca.cert_file, policy=policy.target)))


def test_plaintext_policy_where_tls_is_wanted(pki: Pki, start_daemon: Callable[..., Daemon], connect_ssh: Connect) -> None:
    with open_house(Policy("127.0.0.1:0"), say(b"in\n")) as policy:
        expect_nobody_in(policy, connect_ssh(start_daemon("--policy-ca", pki.ca.cert_file, policy=policy.target)))


def test_tls_policy_where_plaintext_is_spoken(pki: Pki, start_daemon: Callable[..., Daemon], connect_ssh: Connect) -> None:
    with serve(pki) as policy:
        expect_nobody_in(policy, connect_ssh(start_daemon(policy=policy.target)))
