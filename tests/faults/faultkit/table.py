"""The policy and the daemon of the whole table, and how one case of it is checked."""

from __future__ import annotations

import itertools
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Awaitable, Callable, Iterator

from decisionlog import DecisionLog, check_counts
from harness.daemon import Daemon
from harness.keys import Key
from harness.rawclient import RawClient
from harness.rawssh import Closed
from harness.wait import poll
from rawpolicy import Call, RawPolicy

from .faults import Fault
from .handlers import HOME, YES, CaseClient, Handler, connected

# For cases in which it passes. Questions that nobody spoils must be answered in it, too, and many are asked at once.
SHORT_DEADLINES = ("--policy-auth-deadline", "3s", "--policy-deadline", "3s", "--policy-stream-start", "3s")


async def wait_for_close(call: Call) -> None:
    call.headers()
    await call.finished.wait()


class Table:
    """One policy and one daemon; cases by the client's address, or by its user where the address is HOME."""

    def __init__(self, work: Path, host_key: Key, *flags: str) -> None:
        self.cases: dict[str, tuple[Handler, Fault]] = {}
        self.streams: dict[str, Callable[[Call], Awaitable[None]]] = {}
        self.addresses = (f"127.{a}.{b}.{c}" for a in itertools.count(1) for b in range(250) for c in range(1, 250))
        self.policy = RawPolicy(f"unix:{work}/raw.sock", self.answer).start()
        args = ["--listen", "127.0.0.1:0", "--host-key", str(host_key.path), "--policy", self.policy.target, *flags]
        self.daemon = Daemon(args, cwd=work).wait_ready()
        self.log = DecisionLog(self.daemon)

    async def answer(self, call: Call) -> None:
        if call.name == "Channel":
            await self.streams.get(call.request.opened.context.peer.ip, wait_for_close)(call)
            return
        yes = YES[call.name].SerializeToString()
        context = call.request.context
        case = self.cases.get(context.user if context.peer.ip == HOME else context.peer.ip)
        if case is not None:
            handler, fault = case
            if call.name == "BeginAuth":
                yes = handler.begin
            if call.name == handler.on_the_way[0]:
                yes = handler.on_the_way[1]
            if call.name == handler.rpc and fault.spoil:
                await fault.spoil(call, handler.yes)
                return
            if call.name == handler.rpc and fault.build:
                yes = fault.build(handler)
        await call.answer(yes)

    def client(self, handler: Handler, fault: Fault) -> CaseClient:
        source = next(self.addresses)
        self.cases[source] = (handler, fault)
        if not handler.at_home:
            return CaseClient(self.daemon.port, source=source)
        client = CaseClient(self.daemon.port, source=HOME)
        client.user = source
        return client

    def forget_absence(self) -> None:
        """A new link: what the policy behind the old one lacked is asked for again."""
        self.policy.drop()
        poll(self.answers, "the link is up again")

    def answers(self) -> bool:
        client = RawClient(self.daemon.port, source=next(self.addresses))
        try:
            return connected(client)
        except (Closed, OSError):
            return False
        finally:
            client.close()

    def connection(self, client: CaseClient) -> str:
        """Its id, from what was asked about it."""
        source = client.socket_name[0]
        if source == HOME:
            return self.policy.wait_for("BeginAuth", lambda r: r.context.user == client.user).context.connection_id
        return self.policy.wait_for("ConnectionMade", lambda r: r.context.peer.ip == source).context.connection_id

    def close(self) -> None:
        try:
            check_counts(self.daemon, self.log)
        finally:
            self.daemon.kill()
            self.policy.stop()


def check(table: Table, handler: Handler, fault: Fault) -> None:
    """One case: what the client got, what the log says of it."""
    client = table.client(handler, fault)
    try:
        allowed = handler.drive(client)
    finally:
        client.close()
    connection = table.connection(client)
    decisions = table.log.wait(connection, "decision", rpc=handler.rpc)
    said = "\n".join(table.log.lines(connection))
    assert allowed == (fault.allowed or handler.report), said
    for decision in decisions:
        assert re.fullmatch(fault.outcome, decision["outcome"]), said
        assert re.search(fault.reason, decision.get("reason", "")), said
        assert len(decision.get("reason", "")) < 600, said
    if not allowed:
        assert not table.log.events(connection, "program", outcome="accepted"), said
        assert handler.after_login or not table.log.events(connection, "login"), said


@contextmanager
def opened_table(host_key: Key, *flags: str) -> Iterator[Table]:
    with tempfile.TemporaryDirectory(prefix="parley-table-") as work:
        table = Table(Path(work), host_key, *flags)
        yield table
        table.close()
