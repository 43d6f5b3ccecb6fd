"""SSH servers of asyncssh's, in a thread of their own: for what sshd does not do, and for many addresses at once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Callable, Iterable

import asyncssh

from .keys import Key
from .sshd import host_line
from .wait import PATIENCE_S


class AsyncServer:
    """Listens on each (address, host key); `options` as asyncssh.listen() takes them."""

    def __init__(self, factory: Callable[[], asyncssh.SSHServer], places: Iterable[tuple[str, Key]], **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._acceptors: list[asyncssh.SSHAcceptor] = []
        self.places: dict[str, tuple[int, Key]] = {}  # by address
        for address, key in places:
            acceptor = self._run(self._listen(address, server_factory=factory, server_host_keys=[str(key.path)], **options))
            self._acceptors.append(acceptor)
            self.places[address] = (acceptor.get_port(), key)

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    @property
    def port(self) -> int:
        """Of the first address."""
        return next(iter(self.places.values()))[0]

    def known_hosts(self, address: str) -> str:
        port, key = self.places[address]
        return host_line(address, port, key.public)

    @staticmethod
    async def _listen(address: str, **options: Any) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(address, 0, backlog=1024, **{"encoding": None, **options})

    async def _close(self) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()
