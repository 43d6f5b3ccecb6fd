"""Supervise: the policy hears what happens on a connection and acts without being asked."""

from __future__ import annotations

import asyncio
from typing import Any, Callable

import grpc
import grpc.aio
import pytest

from harness.answers import cat, open_house, wait_close
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon
from harness.policy import Policy, Status
from harness.wait import Board

Raw = Callable[..., Any]


class Supervisor:
    """The policy's side of one Supervise stream: what came, and a queue of actions to send."""

    def __init__(self) -> None:
        self.board = Board()
        self.events: list[Any] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.actions: asyncio.Queue[Any] | None = None
        self.number = 0

    async def __call__(self, stream: Any) -> None:
        self.loop, self.actions = asyncio.get_running_loop(), asyncio.Queue()
        await stream.context.send_initial_metadata(())
        reading = asyncio.ensure_future(self._read(stream.context))
        taking = reading
        try:
            while True:
                taking = asyncio.ensure_future(self.actions.get())
                done, _ = await asyncio.wait({reading, taking}, return_when=asyncio.FIRST_COMPLETED)
                if taking not in done:
                    return
                action = taking.result()
                if isinstance(action, Status):
                    raise action
                if action is None:
                    return
                await stream.context.write(action)
        finally:
            reading.cancel()
            taking.cancel()

    async def _read(self, context: Any) -> None:
        while (event := await context.read()) is not grpc.aio.EOF:
            with self.board:
                self.events.append(event)

    def put(self, action: Any) -> None:
        self.wait("started")
        self.loop.call_soon_threadsafe(self.actions.put_nowait, action)

    def act(self, **action: Any) -> int:
        self.number += 1
        self.put(pb.SuperviseAction(id=self.number, **action))
        return self.number

    def done(self, **action: Any) -> Any:
        """Acts, and waits for the outcome."""
        number = self.act(**action)
        return self.wait("done", lambda done: done.id == number)

    def wait(self, kind: str, where: Callable[[Any], bool] = lambda _: True) -> Any:
        def found() -> list[Any]:
            values = [getattr(e, kind) for e in self.events if e.WhichOneof("event") == kind]
            return [value for value in values if where(value)][:1]

        return self.board.wait(found, f"{kind}; came: {self.events}")[0]


def supervised(policy: Policy, on_loss: int = pb.ON_LOSS_KEEP, program: Any = cat) -> Supervisor:
    supervisor = Supervisor()
    open_house(policy, program)
    policy.on.AuthCompleted = pb.AuthCompletedAnswer(allow=pb.Allow(), supervise=True, supervise_on_loss=on_loss)
    policy.on.Supervise = supervisor
    return supervisor


def test_it_starts_with_the_context(policy: Policy, raw: Raw) -> None:
    supervisor = supervised(policy)
    raw().login("carol")
    context = supervisor.wait("started").context
    assert context.user == "carol" and context.authenticated and context.peer.ip == "127.0.0.1"
    assert context.connection_id == policy.requests("AuthCompleted")[0].context.connection_id


def test_it_starts_before_login_if_connection_made_wants_it(policy: Policy, raw: Raw) -> None:
    supervisor = supervised(policy)
    policy.on.ConnectionMade = pb.ConnectionMadeAnswer(allow=pb.Allow(), supervise=True, supervise_on_loss=pb.ON_LOSS_KEEP)
    client = raw()
    assert supervisor.wait("started").context.user == ""
    client.service()
    assert not supervisor.done(banner=pb.Banner(text="out of nowhere")).error
    client.send(client.auth_message("alice", "none"))
    assert b"out of nowhere" in client.expect(53).message
    client.expect(52)
    assert supervisor.done(banner=pb.Banner(text="late")).error
    assert len([call for call in policy.calls if call.name == "Supervise"]) == 1


def test_channels_come_and_go(policy: Policy, ssh: OpenSsh) -> None:
    supervisor = supervised(policy)
    assert ssh.run("tell", stdin=b"12345").out == b"12345"
    opened, closed = supervisor.wait("channel_opened"), supervisor.wait("channel_closed")
    assert (opened.channel, opened.kind) == (closed.channel, closed.kind) == (0, "session")
    assert (closed.detail, closed.bytes_from_client, closed.bytes_to_client) == ("tell", 5, 5)


def test_it_disconnects(policy: Policy, ssh: OpenSsh) -> None:
    supervisor = supervised(policy, program=wait_close)
    client = ssh.popen("x")
    supervisor.wait("channel_opened")
    policy.wait_stream()
    supervisor.act(disconnect=pb.Disconnect(code=11, reason="closing time"))
    _, err = client.communicate(timeout=30)
    assert client.returncode == 255 and b"closing time" in err, err


def test_it_closes_one_channel(policy: Policy, raw: Raw) -> None:
    supervisor = supervised(policy)
    client = raw().login()
    first, second = client.execute("a"), client.execute("b", channel=1)
    policy.wait_stream(1)
    assert not supervisor.done(close_channel=pb.CloseChannel(channel=0)).error
    client.until(97)
    client.close_channel(first)
    client.data(second, b"still here")
    assert b"still here" in client.expect(94).message
    assert supervisor.done(close_channel=pb.CloseChannel(channel=9)).error == "no such channel"


def test_tightening_closes_what_no_longer_fits(policy: Policy, ssh: OpenSsh) -> None:
    supervisor = supervised(policy, program=wait_close)
    with_terminal = ssh.terminal()
    assert policy.wait_stream().session.HasField("pty")
    assert not supervisor.done(tighten=pb.Restrictions(no_pty=True)).error
    assert with_terminal.wait() != 0
    assert supervisor.wait("channel_closed").kind == "session"


def test_tightening_holds_for_what_comes(policy: Policy, raw: Raw) -> None:
    supervisor = supervised(policy)
    client = raw().login()
    number = client.open()
    assert not supervisor.done(tighten=pb.Restrictions(no_pty=True, force_command=b"only this")).error
    assert client.request(number, "exec", b"\0\0\0\4else")
    policy.wait_stream()
    assert policy.requests("ExecRequested")[0].command == b"only this"
    assert policy.requests("ExecRequested")[0].original_command == b"else"


def test_a_source_that_no_longer_fits_is_disconnected(policy: Policy, raw: Raw) -> None:
    supervisor = supervised(policy)
    client = raw().login()
    supervisor.wait("started")
    supervisor.act(tighten=pb.Restrictions(source_addresses=pb.Patterns(patterns=["192.0.2.0/24"])))
    assert client.expect_end()


def test_limits_hold_from_now_on(policy: Policy, raw: Raw) -> None:
    supervisor = supervised(policy)
    client = raw().login()
    client.open()
    assert not supervisor.done(set_limits=pb.Limits(max_sessions=1)).error
    client.send(client.open_message(channel=1))
    client.expect(92)
    supervisor.act(set_limits=pb.Limits(max_lifetime_s=1))
    assert client.expect_end()


def test_debug_reaches_the_client(policy: Policy, ssh: OpenSsh) -> None:
    supervisor = supervised(policy, program=wait_close)
    client = ssh.popen("x", options=("-o", "LogLevel=DEBUG1"))
    policy.wait_stream()
    assert not supervisor.done(debug=pb.DebugMessage(message="mind the gap", always_display=True)).error
    supervisor.act(disconnect=pb.Disconnect(reason="over"))
    assert b"mind the gap" in client.communicate(timeout=30)[1]


ENDS = {
    "returns": None,
    "fails": Status(grpc.StatusCode.INTERNAL, "oops"),
    "garbage": b"\xff\xff\xff",
    "no action": b"",
    "unknown action": bytes([0xF8, 0x7F, 0x01]),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("on_loss", [pb.ON_LOSS_UNSPECIFIED, pb.ON_LOSS_DISCONNECT, pb.ON_LOSS_KEEP])
def test_loss_is_as_declared(policy: Policy, daemon: Daemon, raw: Raw, end: Any, on_loss: int) -> None:
    supervisor = supervised(policy, on_loss)
    client = raw().login()
    supervisor.wait("started")
    supervisor.put(end)
    daemon.wait_event("supervision_lost")
    if on_loss == pb.ON_LOSS_KEEP:
        number = client.execute("still")
        client.data(number, b"here")
        assert b"here" in client.expect(94).message
    else:
        assert client.expect_end()


def test_a_policy_without_the_handler_loses_it_at_once(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    supervised(policy, pb.ON_LOSS_DISCONNECT)
    policy.on.Supervise = None
    client = raw()
    client.service()
    client.send(client.auth_message("alice", "none"))
    client.expect(52)
    assert client.expect_end()
    daemon.wait_event("supervision_lost", outcome="absent")


def test_the_stream_ends_with_the_connection(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    supervisor = supervised(policy, pb.ON_LOSS_DISCONNECT)
    client = raw().login()
    supervisor.wait("started")
    client.close()
    policy.wait_end("Supervise", "answered")
    assert not daemon.events("supervision_lost")


def test_a_flood_of_actions_is_answered_in_order(policy: Policy, raw: Raw) -> None:
    supervisor = supervised(policy)
    raw().login()
    supervisor.wait("started")
    for _ in range(500):
        supervisor.act(close_channel=pb.CloseChannel(channel=1))
    assert supervisor.done(set_limits=pb.Limits(max_sessions=5)).error == ""
    ids = [e.done.id for e in supervisor.events if e.WhichOneof("event") == "done"]
    assert ids == list(range(1, 502))


def test_a_policy_that_does_not_read_is_lost_and_not_waited_for(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    """Its events pile up to a bound; then the stream breaks, as declared."""
    held = policy.gate()
    supervised(policy, pb.ON_LOSS_KEEP)

    async def deaf(stream: Any) -> None:
        await stream.context.send_initial_metadata(())
        await held.passed()

    policy.on.Supervise = deaf
    client = raw().login()
    for _ in range(300):
        number = client.execute("x" * 8000)
        client.close_channel(number)
        client.until(97)
    assert not client.global_request("still-alive@example.com")
    held.open()
