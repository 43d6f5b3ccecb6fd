"""New keys after each MiB, asked for by the daemon or by the client, while data flows up, down or both ways."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncssh
import pytest

from harness.keys import Key
from harness.wait import poll
from kit.client import JOB_S, Algorithms, Client, Job, Outcome
from kit.house import House, digest, pattern
from kit.libraries import AsyncSsh
from kit.openssh import OpenSsh, held
from kit.servers import MIB, Servers

SIZE = 9 * MIB
# Who sends can change keys at each MiB exactly. Who receives can only ask: what is on the way already, in windows (plink's
# has no end) and in the kernel's buffers, still comes under the old keys. The first exchange counts too.
EXACT, SOME = SIZE // MIB, 2

FLOWS = ("down", "up", "both")


def job_of(flow: str, key: Key, **more: object) -> Job:
    if flow == "down":
        return Job(f"source {SIZE}", key=key, linger=True, **more)
    if flow == "up":
        return Job("sink", key=key, stdin=pattern(SIZE), **more)
    return Job(f"echo {SIZE}", key=key, stdin=pattern(SIZE), linger=True, **more)


def assert_whole(flow: str, outcome: Outcome) -> None:
    assert outcome.status == 0, outcome
    if flow == "up":
        assert outcome.out.decode() == f"{SIZE} {digest(SIZE)}\n"
    else:
        assert (outcome.size, outcome.sha256) == (SIZE, digest(SIZE))


@pytest.mark.parametrize("flow", FLOWS)
def test_rekey_by_daemon(client: Client, flow: str, servers: Servers, user_key: Key) -> None:
    outcome, _ = servers.run(client, job_of(flow, user_key), rekey=MIB)
    assert_whole(flow, outcome)
    # dbclient does not tell; that data came through shows that it answered, as the daemon sends none before.
    least = SOME if flow == "up" else EXACT
    assert outcome.key_exchanges is None or outcome.key_exchanges >= least, outcome.log


@pytest.mark.parametrize("flow", FLOWS)
def test_rekey_by_client(client: Client, flow: str, servers: Servers, user_key: Key) -> None:
    if not client.rekeys:
        pytest.skip(f"{client.name} cannot be told when to rekey")
    if flow == "down" and not client.rekeys_when_receiving:
        pytest.skip(f"{client.name} counts only what it sends")
    outcome, _ = servers.run(client, job_of(flow, user_key, rekey=MIB))
    assert_whole(flow, outcome)
    assert outcome.key_exchanges is not None and outcome.key_exchanges >= SOME, outcome.log


def test_rekey_by_both(client: Client, servers: Servers, user_key: Key) -> None:
    """At the same moment, now and then: both KEXINITs are on the way."""
    if not client.rekeys:
        pytest.skip(f"{client.name} cannot be told when to rekey")
    outcome, _ = servers.run(client, job_of("both", user_key, rekey=MIB), rekey=MIB)
    assert_whole("both", outcome)
    assert outcome.key_exchanges is not None and outcome.key_exchanges >= EXACT, outcome.log


@pytest.mark.parametrize(
    "cipher,mac,compression",
    [
        ("aes256-gcm@openssh.com", "", ""),
        ("aes128-ctr", "hmac-sha2-512-etm@openssh.com", ""),
        ("aes256-ctr", "hmac-sha2-256", ""),
        ("chacha20-poly1305@openssh.com", "", "zlib@openssh.com"),
        ("aes192-ctr", "hmac-sha2-256-etm@openssh.com", "zlib@openssh.com"),
    ],
)
def test_rekey_with_other_ciphers(
    openssh: OpenSsh, cipher: str, mac: str, compression: str, servers: Servers, user_key: Key
) -> None:
    """New keys reset counters, MAC states and compressors too."""
    algorithms = Algorithms(kex="curve25519-sha256", cipher=cipher, mac=mac, compression=compression)
    outcome, _ = servers.run(openssh, job_of("both", user_key, algorithms=algorithms, rekey=MIB), rekey=MIB)
    assert_whole("both", outcome)
    assert outcome.key_exchanges is not None and outcome.key_exchanges >= EXACT, outcome.log


def test_rekey_while_the_policy_reads_nothing(openssh: OpenSsh, servers: Servers, house: House, user_key: Key) -> None:
    """What waits for the policy must not hold up the key exchange that comes behind it."""
    _, server = servers.get()
    algorithms = Algorithms(kex="curve25519-sha256")
    job = Job("lazy rekey", key=user_key, stdin=pattern(SIZE), algorithms=algorithms, rekey=MIB // 2)
    gate = house.gate("rekey")
    with held(openssh, server, job) as log:
        try:
            poll(lambda: log.read_text().count("SSH2_MSG_NEWKEYS received") >= 5, "four rekeys within one window")
        finally:
            gate.open()
    stream = next(s for s in house.policy.streams if s.opened.context.user == job.user)
    assert stream.received == SIZE


def test_rekey_with_many_channels(servers: Servers, scratch: Path, user_key: Key) -> None:
    """No channel's bytes get lost or into another's."""
    _, server = servers.get(rekey=MIB)
    client, job = AsyncSsh(scratch / "asyncssh"), Job(key=user_key, rekey=MIB)
    sizes = [MIB + number for number in range(8)]

    async def echo(conn: asyncssh.SSHClientConnection, size: int) -> bool:
        result = await conn.run(f"echo {size}", input=pattern(size), encoding=None, check=True)
        return result.stdout == pattern(size)

    async def connect() -> list[bool]:
        async with asyncssh.connect("127.0.0.1", server.port, **client.options(server, job)) as conn:
            return await asyncio.gather(*(echo(conn, size) for size in sizes))

    assert asyncio.run(asyncio.wait_for(connect(), JOB_S)) == [True] * len(sizes)
