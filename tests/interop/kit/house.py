"""The policy of these tests, and the programs that its sessions run."""

from __future__ import annotations

import asyncio
import hashlib
import random
from functools import cache
from typing import Any, Iterable

from harness.answers import PASSWORD as PASSWORD_METHOD
from harness.answers import PUBLICKEY, begin, key_no, key_ok, password_no, password_ok, stream
from harness.contract import pb
from harness.keys import Key
from harness.policy import Gate, Policy
from harness.stream import ChannelStream

from .client import PASSWORD

CHUNK = 32 * 1024
SHELL_PROMPT = b"parley> "


@cache
def pattern(size: int) -> bytes:
    """Bytes that no cipher, no compression and no repetition can mistake."""
    return random.Random(size).randbytes(size)


@cache
def digest(size: int) -> str:
    return hashlib.sha256(pattern(size)).hexdigest()


class House:
    """Lets anybody in who has the password or one of the keys, and runs what the command says."""

    def __init__(self, policy: Policy, keys: Iterable[Key]) -> None:
        self.policy = policy
        self.blobs = {key.blob for key in keys}
        self.gates: dict[str, Gate] = {}
        self.keepalive: dict[str, int] = {}  # users whose connections the daemon is to watch, and the interval
        policy.on.BeginAuth = begin(PASSWORD_METHOD, PUBLICKEY)
        policy.on.ValidatePassword = lambda request, _: password_ok() if request.password == PASSWORD else password_no()
        policy.on.ValidatePublicKey = lambda request, _: key_ok() if request.key.blob in self.blobs else key_no()
        policy.on.AuthCompleted = self._completed
        policy.on.SessionRequested = stream()
        policy.on.Channel = self._program

    def gate(self, name: str) -> Gate:
        """Of the programs `hold NAME` and `lazy NAME`; it must exist before they start."""
        return self.gates.setdefault(name, self.policy.gate())

    def login(self, user: str) -> tuple[str, str]:
        """How this user logged in: the method, and for a key the algorithm of its signature."""
        request = self.policy.wait_for("AuthCompleted", where=lambda request: request.context.user == user)
        method = pb.AuthMethod.Name(request.context.passed[0].method).removeprefix("AUTH_METHOD_").lower()
        if method != "publickey":
            return method, ""
        proofs = [
            request.use.signature_algorithm
            for request in self.policy.requests("ValidatePublicKey")
            if request.context.user == user and request.use.phase == pb.KEY_PHASE_PROVEN
        ]
        return method, proofs[-1]

    def _completed(self, request: Any, _context: Any) -> Any:
        answer = pb.AuthCompletedAnswer(allow=pb.Allow())
        seconds = self.keepalive.get(request.context.user)
        if seconds:
            answer.limits.keepalive_interval_s = seconds
            answer.limits.keepalive_count_max = 1
        return answer

    async def _program(self, channel: ChannelStream) -> None:
        session = channel.session
        if session.WhichOneof("program") == "shell":
            await self._shell(channel)
            return
        name, *words = session.exec.command.decode().split()
        await getattr(self, f"_run_{name}")(channel, *words)

    async def _run_greet(self, channel: ChannelStream, status: str) -> None:
        """Both streams and a status."""
        await channel.write(b"to stdout\n")
        await channel.write(b"to stderr\n", 1)
        await channel.exit(int(status))

    async def _run_source(self, channel: ChannelStream, size: str) -> None:
        data = pattern(int(size))
        for start in range(0, len(data), CHUNK):
            await channel.write(data[start : start + CHUNK])
        await self._part(channel)

    async def _run_sink(self, channel: ChannelStream) -> None:
        """Tells what came."""
        hashed, size = hashlib.sha256(), 0
        while data := await channel.read_data():
            hashed.update(data)
            size += len(data)
        await channel.write(f"{size} {hashed.hexdigest()}\n".encode())
        await channel.exit(0)

    async def _run_lazy(self, channel: ChannelStream, name: str) -> None:
        """Reads nothing until the test says so."""
        await self.gates[name].passed()
        await self._run_sink(channel)

    async def _run_echo(self, channel: ChannelStream, size: str) -> None:
        """So many bytes back, in both directions at once."""
        left = int(size)
        while left > 0 and (data := await channel.read_data()):
            await channel.write(data)
            left -= len(data)
        await self._part(channel)

    async def _part(self, channel: ChannelStream) -> None:
        """The client's own eof, often long here, comes before the end."""
        await channel.eof()
        while await channel.read_data():
            pass
        await channel.exit(0)

    async def _run_hold(self, channel: ChannelStream, name: str) -> None:
        """Ends when the test says so."""
        await channel.write(b"held\n")
        await self.gates[name].passed()
        await channel.exit(0)

    async def _run_last(self, channel: ChannelStream, seconds: str) -> None:
        """Ends after a time that the daemon's own clock has to fill."""
        await asyncio.sleep(float(seconds))
        await channel.exit(0)

    async def _shell(self, channel: ChannelStream) -> None:
        """A line in, a line out, `exit N` ends it. A terminal sends \\r where a pipe has \\n."""
        await channel.write(SHELL_PROMPT)
        waiting = b""
        while data := await channel.read_data():
            waiting += data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            while b"\n" in waiting:
                line, _, waiting = waiting.partition(b"\n")
                if line.startswith(b"exit "):
                    await channel.exit(int(line.split()[1]))
                    return
                await channel.write(b"you said " + line + b"\r\n" + SHELL_PROMPT)
        await channel.exit(255)
