"""OpenSSH's extensions, as clients of several makes use them (OpenSSH PROTOCOL), and keepalives both ways."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.packet import SSHPacket, String

from harness.keys import Key
from harness.wait import poll
from kit.client import JOB_S, Client, Job, Server
from kit.house import House
from kit.libraries import AsyncSsh
from kit.openssh import OpenSsh, held
from kit.programs import Rust
from kit.servers import MIB, Servers

MSG_PING, MSG_PONG = 192, 193


# ---- hostkeys-00@openssh.com


@pytest.mark.parametrize("known", ["ed25519", "nistp256", "rsa"])
def test_openssh_learns_the_other_host_keys(
    openssh: OpenSsh, known: str, servers: Servers, house: House, host_keys: dict[str, Key], user_key: Key
) -> None:
    """It writes a key down only after the daemon has proven that it holds it."""
    _, server = servers.get()
    file = openssh.file("known_hosts", Server(server.port, (host_keys[known],)).known_hosts)
    client = openssh.with_flags("-o", f"UserKnownHostsFile={file}", "-o", "UpdateHostKeys=yes")
    job = Job(f"hold learn-{known}", key=user_key)
    gate = house.gate(f"learn-{known}")
    with held(client, server, job) as log:

        def learnt() -> bool:
            text = file.read_text()
            return all(key.public in text for key in server.host_keys)

        try:
            poll(learnt, "all keys in known_hosts")
        except AssertionError:
            raise AssertionError(f"{file.read_text()}\n{log.read_text()}") from None
        finally:
            gate.open()


def test_asyncssh_learns_the_other_host_keys(
    servers: Servers, scratch: Path, host_keys: dict[str, Key], user_key: Key
) -> None:
    client, seen = AsyncSsh(scratch / "asyncssh"), []
    port = servers.get()[1].port
    options = client.options(Server(port, (host_keys["ed25519"],)), Job("greet 0", key=user_key))

    async def connect() -> None:
        done = asyncio.Event()

        def learn(added: Any, removed: Any, retained: Any, revoked: Any) -> None:
            seen.append((added, removed, retained, revoked))
            done.set()

        async with asyncssh.connect("127.0.0.1", port, server_host_keys_handler=learn, **options):
            await asyncio.wait_for(done.wait(), JOB_S)

    asyncio.run(connect())
    added, removed, retained, revoked = seen[0]
    assert {key.get_fingerprint() for key in added} == {host_keys[name].fingerprint for name in ("nistp256", "rsa")}
    assert (removed, revoked) == ([], [])
    assert [key.get_fingerprint() for key in retained] == [host_keys["ed25519"].fingerprint]


def test_russh_lets_the_host_keys_be_proven(rust: Rust, servers: Servers, user_key: Key) -> None:
    _, server = servers.get()
    seen = rust.see(server, Job("greet 0", key=user_key), *rust.switch("prove"))
    assert sorted(seen["proven_host_keys"]) == sorted(key.fingerprint for key in server.host_keys)


# ---- EXT_INFO, ping@openssh.com, publickey-hostbound-v00@openssh.com, strict key exchange


class PingingConnection(asyncssh.connection.SSHClientConnection):
    """asyncssh itself neither pings nor tells what extensions it was offered."""

    extensions: dict[bytes, bytes]
    pongs: "asyncio.Queue[bytes]"

    def _note_extensions(self, kind: int, number: int, packet: SSHPacket) -> Any:
        told, names = SSHPacket(packet.get_remaining_payload()), {}
        for _ in range(told.get_uint32()):
            name = told.get_string()
            names[name] = told.get_string()
        type(self).extensions = names
        return super()._process_ext_info(kind, number, packet)

    def _process_pong(self, _kind: int, _number: int, packet: SSHPacket) -> None:
        self.pongs.put_nowait(packet.get_string())
        packet.check_end()

    _packet_handlers = {
        **asyncssh.connection.SSHClientConnection._packet_handlers,
        asyncssh.constants.MSG_EXT_INFO: _note_extensions,
        MSG_PONG: _process_pong,
    }


@pytest.fixture
def pinging(monkeypatch: pytest.MonkeyPatch) -> type[PingingConnection]:
    """asyncssh.connect() makes such connections."""
    monkeypatch.setattr(asyncssh.connection, "SSHClientConnection", PingingConnection)
    return PingingConnection


@pytest.mark.parametrize("rekey", [0, MIB], ids=["quiet", "rekeying"])
def test_ping(pinging: type[PingingConnection], rekey: int, servers: Servers, scratch: Path, user_key: Key) -> None:
    """Every ping comes back whole and in order, also with data and key exchanges between."""
    _, server = servers.get(rekey=rekey)
    client, job = AsyncSsh(scratch / "asyncssh"), Job(key=user_key)
    pings = [bytes([number]) * size for number, size in enumerate((0, 1, 7, 1000, 30_000) * 20)]
    data = bytes(100_000)

    async def connect() -> list[bytes]:
        async with asyncssh.connect("127.0.0.1", server.port, **client.options(server, job)) as conn:
            conn.pongs = asyncio.Queue()
            process = await conn.create_process(f"echo {len(pings) * len(data)}", encoding=None)
            pongs = []
            for ping in pings:
                conn.send_packet(MSG_PING, String(ping))
                process.stdin.write(data)
                assert await process.stdout.readexactly(len(data)) == data
                pongs.append(await conn.pongs.get())
            process.stdin.write_eof()
            await process.wait_closed()
            return pongs

    assert asyncio.run(asyncio.wait_for(connect(), JOB_S)) == pings
    assert pinging.extensions[b"ping@openssh.com"] == b"0"
    assert b"rsa-sha2-512" in pinging.extensions[b"server-sig-algs"].split(b",")
    assert b"ssh-rsa" not in pinging.extensions[b"server-sig-algs"].split(b",")


@pytest.mark.parametrize("kind", ["ed25519", "nistp384", "rsa"])
def test_publickey_hostbound(openssh: OpenSsh, kind: str, servers: Servers, user_keys: dict[str, Key]) -> None:
    """Its signature covers the host key that the daemon showed, too."""
    outcome, _ = servers.run(openssh.with_flags("-vvv"), Job("greet 0", key=user_keys[kind]))
    assert outcome.status == 0, outcome
    assert "kex_input_ext_info: publickey-hostbound@openssh.com=<0>" in outcome.log
    assert "sign_and_send_pubkey: using publickey-hostbound-v00@openssh.com with" in outcome.log


def test_strict_key_exchange(openssh: OpenSsh, servers: Servers, user_key: Key) -> None:
    """The answer to Terrapin: both sides reset their sequence numbers."""
    outcome, _ = servers.run(openssh.with_flags("-vvv"), Job("greet 0", key=user_key))
    assert "will use strict KEX ordering" in outcome.log
    assert "resetting read seqnr" in outcome.log


# ---- keepalives and other global requests


def test_global_requests_are_answered(client: Client, servers: Servers, user_key: Key) -> None:
    if not client.asks_globals:
        pytest.skip(f"{client.name} cannot be told to send any")
    outcome, _ = servers.run(client, Job("greet 0", key=user_key, globals=5))
    assert outcome.status == 0, outcome
    assert outcome.global_replies == ["failure"] * 5  # what sshd says to a keepalive


def test_openssh_keepalives_are_answered(openssh: OpenSsh, servers: Servers, house: House, user_key: Key) -> None:
    _, server = servers.get()
    client = openssh.with_flags("-vvv", "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1")
    gate = house.gate("alive")
    with held(client, server, Job("hold alive", key=user_key)) as log:
        try:
            poll(lambda: log.read_text().count("receive packet: type 82") >= 3, "three answers to keepalives")
        finally:
            gate.open()


def test_clients_answer_keepalives(everyone: list[Client], servers: Servers, house: House, user_key: Key) -> None:
    """The daemon asks each second and cuts off who owes it more than one answer."""
    jobs = [Job("last 3.5", key=user_key) for _ in everyone]
    for job in jobs:
        house.keepalive[job.user] = 1
    with ThreadPoolExecutor(len(everyone)) as pool:
        outcomes = [outcome for outcome, _ in pool.map(servers.run, everyone, jobs)]
    assert [(client, outcome.status) for client, outcome in zip(everyone, outcomes)] == [(client, 0) for client in everyone]
    # One of them tells that it really was asked.
    log = next(outcome.log for client, outcome in zip(everyone, outcomes) if isinstance(client, OpenSsh))
    assert log.count("client_input_global_request: rtype keepalive@openssh.com want_reply 1") >= 2, log
