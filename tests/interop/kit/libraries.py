"""Clients that are Python libraries: asyncssh and paramiko, run inside the test process."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import threading
import time
from contextlib import contextmanager
from typing import Any, Iterator

import asyncssh
import paramiko
from asyncssh.kex import get_kex_algs
from paramiko.kex_mlkem import KexMLKEM768X25519

from .client import CHACHA, CTR, CURVE25519, ECDSA, ED25519, ETM, GCM, GROUPS, JOB_S, MLKEM, NIST, PASSWORD, PLAIN, RSA
from .client import KEPT_BYTES, Client, Job, Outcome, Server

CHUNK = 256 * 1024
READ = 1 << 20


class _Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def listening(name: str) -> Iterator[list[str]]:
    """What this logger says meanwhile, as the libraries report key exchanges nowhere else."""
    logger, handler = logging.getLogger(name), _Log()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler.lines
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


class Gathered:
    """One stream of a program: hashed, counted, its beginning kept."""

    def __init__(self) -> None:
        self.hash, self.size, self.kept = hashlib.sha256(), 0, bytearray()

    def take(self, data: bytes) -> None:
        self.hash.update(data)
        self.size += len(data)
        self.kept += data[: max(0, KEPT_BYTES - len(self.kept))]


def outcome(status: int | None, out: Gathered, err: Gathered, **more: Any) -> Outcome:
    return Outcome(status, bytes(out.kept), err.kept.decode("utf-8", "replace"), out.size, out.hash.hexdigest(), **more)


class AsyncSsh(Client):
    name = "asyncssh"
    supports = {
        "kex": (MLKEM if b"mlkem768x25519-sha256" in get_kex_algs() else ()) + CURVE25519 + NIST + GROUPS,
        "cipher": CHACHA + GCM + CTR,
        "mac": ETM + PLAIN,
        "hostkey": ED25519 + ECDSA + RSA,
        "userkey": ED25519 + ECDSA + RSA,
    }
    chooses = frozenset({"kex", "cipher", "mac", "hostkey"})
    compresses = True
    rekeys = True
    rekeys_when_receiving = False
    asks_globals = True

    def options(self, server: Server, job: Job) -> dict[str, Any]:
        """For asyncssh.connect()."""
        wanted = job.algorithms.wanted()
        names = {
            "kex_algs": wanted.get("kex"),
            "encryption_algs": wanted.get("cipher"),
            "mac_algs": wanted.get("mac"),
            "server_host_key_algs": wanted.get("hostkey"),
            "compression_algs": wanted.get("compression"),
            "signature_algs": job.signature,
        }
        options: dict[str, Any] = {name: [value] for name, value in names.items() if value}
        options["known_hosts"] = str(self.file("known_hosts", server.known_hosts))
        options["client_keys"] = [str(job.key.path)] if job.key else None
        if not job.key:
            options["password"] = PASSWORD
        if job.rekey:
            options["rekey_bytes"] = job.rekey
        return options | {"config": None, "agent_path": None, "username": job.user, "connect_timeout": JOB_S}

    def run(self, server: Server, job: Job) -> Outcome:
        with listening("asyncssh") as lines:
            outcome = asyncio.run(asyncio.wait_for(self._job(server, job), JOB_S))
        outcome.log = "\n".join(lines)
        outcome.key_exchanges = sum("Completed key exchange" in line for line in lines)
        return outcome

    async def _job(self, server: Server, job: Job) -> Outcome:
        async with asyncssh.connect("127.0.0.1", server.port, **self.options(server, job)) as conn:
            replies = await asyncio.gather(
                *(conn._make_global_request(b"keepalive@openssh.com") for _ in range(job.globals))
            )
            names = {asyncssh.constants.MSG_REQUEST_SUCCESS: "success", asyncssh.constants.MSG_REQUEST_FAILURE: "failure"}
            outcome = await self._program(conn, job)
            outcome.global_replies = [names[kind] for kind, _ in replies]
            return outcome

    async def _program(self, conn: asyncssh.SSHClientConnection, job: Job) -> Outcome:
        terminal = {"request_pty": "force", "term_type": "xterm", "term_size": (80, 24)} if job.pty else {}
        process = await conn.create_process(job.command, encoding=None, **terminal)
        out, err = Gathered(), Gathered()

        async def send() -> None:
            for start in range(0, len(job.stdin), CHUNK):
                process.stdin.write(job.stdin[start : start + CHUNK])
                await process.stdin.drain()
            if not job.pty:
                process.stdin.write_eof()

        async def receive(reader: asyncssh.SSHReader[bytes], into: Gathered) -> None:
            while data := await reader.read(READ):
                into.take(data)

        await asyncio.gather(send(), receive(process.stdout, out), receive(process.stderr, err))
        await process.wait_closed()
        return outcome(process.exit_status, out, err)


class Paramiko(Client):
    name = "paramiko"
    supports = {
        "kex": (MLKEM if KexMLKEM768X25519.is_available() else ()) + CURVE25519[1:] + NIST + GROUPS,
        "cipher": GCM + CTR,
        "mac": ETM + PLAIN,
        "hostkey": ED25519 + ECDSA + RSA,
        "userkey": ED25519 + ECDSA + RSA[:1],
    }
    chooses = frozenset({"kex", "cipher", "mac", "hostkey"})
    rekeys = True
    asks_globals = True

    def run(self, server: Server, job: Job) -> Outcome:
        name = f"paramiko.{job.user}"
        with listening(name) as lines:
            transport = paramiko.Transport(socket.create_connection(("127.0.0.1", server.port), JOB_S))
            transport.set_log_channel(name)
            try:
                outcome = self._job(transport, server, job)
            finally:
                transport.close()
                transport.join(JOB_S)
        outcome.log = "\n".join(lines)
        outcome.key_exchanges = sum("Switch to new keys" in line for line in lines)
        return outcome

    def _job(self, transport: paramiko.Transport, server: Server, job: Job) -> Outcome:
        offers = transport.get_security_options()
        wanted = job.algorithms.wanted()
        for option, kind in (("kex", "kex"), ("ciphers", "cipher"), ("digests", "mac"), ("key_types", "hostkey")):
            if kind in wanted:
                setattr(offers, option, (wanted[kind],))
        if job.rekey:
            transport.packetizer.REKEY_BYTES = job.rekey
        transport.start_client(timeout=JOB_S)
        told = transport.get_remote_server_key().asbytes()
        assert told in [key.blob for key in server.host_keys], "an unknown host key"
        if job.key:
            transport.auth_publickey(job.user, paramiko.PKey.from_path(job.key.path))
        else:
            transport.auth_password(job.user, PASSWORD)
        replies = [transport.global_request("keepalive@openssh.com", wait=True) for _ in range(job.globals)]
        outcome = self._program(transport, job)
        outcome.global_replies = ["failure" if reply is None else "success" for reply in replies]
        return outcome

    def _program(self, transport: paramiko.Transport, job: Job) -> Outcome:
        channel = transport.open_session(timeout=JOB_S)
        channel.settimeout(JOB_S)
        if job.pty:
            channel.get_pty("xterm", 80, 24)
        if job.command is None:
            channel.invoke_shell()
        else:
            channel.exec_command(job.command)
        out, err = Gathered(), Gathered()

        def send() -> None:
            channel.sendall(job.stdin)
            if not job.pty and not job.linger:
                channel.shutdown_write()

        def receive_errors() -> None:
            while data := channel.recv_stderr(READ):
                err.take(data)

        helpers = [threading.Thread(target=work, daemon=True) for work in (send, receive_errors)]
        for helper in helpers:
            helper.start()
        while data := channel.recv(READ):
            out.take(data)
        # A CLOSE that comes amid a rekey of its own hangs paramiko: the thread that is to answer it waits for the keys,
        # which the same thread is to receive. So the daemon must not close before this.
        if job.linger:
            channel.shutdown_write()
        end = time.monotonic() + JOB_S
        for helper in helpers:
            helper.join(max(0.0, end - time.monotonic()))
        assert channel.status_event.wait(JOB_S), "no exit status"
        channel.close()
        return outcome(channel.exit_status if channel.exit_status >= 0 else None, out, err)
