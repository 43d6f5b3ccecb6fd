"""Very many users at once, each with a connection of his own to one of 20 other servers, and each with his own answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from test_process_life import descriptors

from harness.answers import hop, upstream_house
from harness.contract import pb
from harness.daemon import Daemon, is_sanitized, rss_kib
from harness.keys import make_key
from harness.policy import Policy
from harness.wait import PATIENCE_S, poll

USERS, SERVERS = 200, 20


class Shell(asyncssh.SSHServerSession):
    """Says who it is for, and where; then echoes lines."""

    def connection_made(self, chan: Any) -> None:
        self.chan = chan

    def exec_requested(self, command: str) -> bool:
        self.command = command
        return True

    def session_started(self) -> None:
        user = self.chan.get_extra_info("username")
        address = self.chan.get_extra_info("sockname")[0]
        self.chan.write(f"{user} at {address}: {self.command}\n".encode())

    def data_received(self, data: bytes, datatype: Any) -> None:
        self.chan.write(data)

    def eof_received(self) -> bool:
        self.chan.exit(int(self.command))
        return True


class House(asyncssh.SSHServer):
    """Everybody's password is his name and the server's address."""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.conn = conn

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password == f"{username} {self.conn.get_extra_info('sockname')[0]}"

    def session_requested(self) -> Shell:
        return Shell()


@pytest.fixture
def houses(start_async_server: Any, work: Path) -> Any:
    """20 servers, each with an address and a host key of its own."""
    return start_async_server(House, [(f"127.0.9.{n + 1}", make_key(work / f"host{n}")) for n in range(SERVERS)])


def place(user: int) -> str:
    return f"127.0.9.{user % SERVERS + 1}"


def test_200_users_over_20_servers(policy: Policy, daemon: Daemon, houses: Any) -> None:
    def way(request: Any, _: Any) -> Any:
        user = request.context.user
        address = place(int(user.removeprefix("user")))
        port, _key = houses.places[address]
        there = hop(address, port, houses.known_hosts(address), password=f"{user} {address}", connect_timeout_s=int(PATIENCE_S))
        return pb.SessionAnswer(upstream=pb.UpstreamEndpoint(hops=[there]))

    upstream_house(policy)
    policy.on.ExecRequested = way
    here = 0
    everybody = asyncio.Event()

    async def one(user: int) -> None:
        nonlocal here
        options = {"username": f"user{user}", "known_hosts": None, "client_keys": None, "agent_path": None, "config": None}
        async with asyncssh.connect("127.0.0.1", daemon.port, login_timeout=PATIENCE_S, **options) as connection:
            process = await connection.create_process(str(user % 250), encoding=None)
            told = await process.stdout.readline()
            assert told == f"user{user} at {place(user)}: {user % 250}\n".encode(), told + await process.stderr.read()
            here += 1
            if here == USERS:
                everybody.set()
            await everybody.wait()
            for turn in range(3):
                line = f"{user} says {turn}\n".encode()
                process.stdin.write(line)
                assert await process.stdout.readline() == line
            process.stdin.write_eof()
            assert (await process.wait()).exit_status == user % 250

    async def main() -> None:
        tasks = [asyncio.ensure_future(one(user)) for user in range(USERS)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    before = descriptors(daemon)
    asyncio.run(asyncio.wait_for(main(), 110))
    daemon.wait_event("closed", count=USERS)
    poll(lambda: descriptors(daemon) <= before, f"{before} descriptors again")
    if not is_sanitized(daemon.pid):
        assert rss_kib(daemon.pid) < 256 * 1024
