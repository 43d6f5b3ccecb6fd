"""OpenSSH certificates (PROTOCOL.certkeys): the policy trusts an authority, the daemon checks what the authority wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest

from harness.answers import PUBLICKEY, begin, key_no, key_ok, say, serve
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon
from harness.keys import Key, certify, make_key
from harness.policy import Policy


@pytest.fixture
def ca(work: Path) -> Key:
    return make_key(work / "ca")


@pytest.fixture
def key(work: Path) -> Key:
    return make_key(work / "key")


def ca_house(policy: Policy, ca: Key) -> None:
    """Whoever proves to have a key that this authority certified."""
    policy.on.BeginAuth = begin(PUBLICKEY)
    policy.on.ValidateCaKey = lambda request, _: key_ok() if request.ca.blob == ca.blob else key_no()
    serve(policy, say(b""))


def test_login_with_openssh(policy: Policy, daemon: Daemon, ssh: OpenSsh, ca: Key, key: Key) -> None:
    ca_house(policy, ca)
    certify(key, ca, "-z", "18446744073709551615", "-O", "no-agent-forwarding", principals="alice,bob")
    result = ssh.run("x", key=key)
    assert result.status == 0, result
    proven = policy.wait_for("ValidateCaKey", where=lambda r: r.use.phase == pb.KEY_PHASE_PROVEN)
    assert proven.certificate.serial == 2**64 - 1
