"""Handlers of the contract that the daemon does not call yet: refused, with a log line that says so, and never asked."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from harness.answers import cat, open_house
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.wire import string, u32

Raw = Callable[..., RawClient]

YES: dict[str, Any] = {
    "TunRequested": pb.OpenAnswer(forward=pb.ForwardEndpoint()),
    "TapRequested": pb.OpenAnswer(forward=pb.ForwardEndpoint()),
}


@pytest.fixture
def eager(policy: Policy) -> Policy:
    """A policy that would allow all of it."""
    open_house(policy, cat)
    for name, answer in YES.items():
        setattr(policy.on, name, answer)
    return policy


def check_logged(daemon: Daemon, handler: str) -> None:
    assert handler in daemon.wait_event("handler_not_called_yet")["handler"]


OPENS = {
    "tun@openssh.com": ("TunRequested", u32(1) + u32(0x7FFFFFFF)),
}


@pytest.mark.parametrize("kind", OPENS)
def test_channel_opens(eager: Policy, daemon: Daemon, raw: Raw, kind: str) -> None:
    handler, rest = OPENS[kind]
    client = raw().login()
    client.send(client.open_message(kind, 3, rest))
    failure = client.expect(92)
    assert (failure.u32(), failure.u32()) == (3, 1)
    assert failure.string()
    check_logged(daemon, handler)
    assert handler not in eager.names()
    client.open()  # the connection goes on


def test_tap(eager: Policy, daemon: Daemon, raw: Raw) -> None:
    client = raw().login()
    client.send(client.open_message("tun@openssh.com", 3, u32(2) + u32(0x7FFFFFFF)))
    assert client.expect(92).u32() == 3
    assert daemon.wait_event("handler_not_called_yet")
    assert "TapRequested" not in eager.names()


def test_unknown_requests_fail(eager: Policy, raw: Raw) -> None:
    client = raw().login()
    number = client.open()
    assert not client.request(number, "nonsense@example.com", b"anything")
    assert not client.global_request("nonsense@example.com", b"anything")
    assert not client.global_request("keepalive@openssh.com")
