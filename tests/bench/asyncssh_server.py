"""The same work as the bench's policy does, on asyncssh: asyncssh_server.py PORT HOST_KEY AUTHORIZED_KEY."""

from __future__ import annotations

import asyncio
import signal
import sys

import asyncssh

CHUNK = bytes(32 * 1024)


class Session(asyncssh.SSHServerSession):
    """`true`, `source N`, `sink`, `echo`."""

    def __init__(self) -> None:
        self.left = 0
        self.taken = 0
        self.paused = False
        self.work = ""

    def connection_made(self, chan: asyncssh.SSHServerChannel) -> None:
        self.chan = chan

    def exec_requested(self, command: str) -> bool:
        self.work, _, count = command.partition(" ")
        self.left = int(count or 0)
        return self.work in ("true", "source", "sink", "echo")

    def session_started(self) -> None:
        if self.work == "true":
            self.chan.exit(0)
        elif self.work == "source":
            self.pour()

    def pour(self) -> None:
        while self.left and not self.paused:
            size = min(self.left, len(CHUNK))
            self.left -= size
            self.chan.write(CHUNK if size == len(CHUNK) else CHUNK[:size])
        if not self.left:
            self.chan.exit(0)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.work == "source" and self.left:
            self.pour()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if self.work == "echo":
            self.chan.write(data)
        else:
            self.taken += len(data)

    def eof_received(self) -> bool:
        if self.work == "sink":
            self.chan.write(b"%d\n" % self.taken)
        self.chan.exit(0)
        return True


class Server(asyncssh.SSHServer):
    """One key may log in, under any name."""

    def __init__(self, key: asyncssh.SSHKey) -> None:
        self.key = key

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return key == self.key

    def session_requested(self) -> Session:
        return Session()


async def main() -> None:
    port, host_key, authorized = sys.argv[1:]
    key = asyncssh.read_public_key(authorized)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await asyncssh.create_server(
        lambda: Server(key),
        "127.0.0.1",
        int(port),
        server_host_keys=[host_key],
        encoding=None,
        backlog=1024,
    )
    await stop.wait()


asyncio.run(main())
