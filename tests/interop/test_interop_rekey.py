"""New keys after each MiB, asked for by the daemon or by the client, while data flows up, down or both ways."""

from __future__ import annotations

import pytest

from harness.keys import Key
from kit.client import Algorithms, Client, Job, Outcome
from kit.house import digest, pattern
from kit.servers import MIB, Servers

SIZE = 9 * MIB
# What is on the way already, at most a window of 2 MiB, still comes under the old keys.
LEAST = SIZE // (3 * MIB)

FLOWS = ("down", "up", "both")


def job_of(flow: str, key: Key, **more: object) -> Job:
    if flow == "down":
        return Job(f"source {SIZE}", key=key, **more)
    return Job("sink" if flow == "up" else "echo", key=key, stdin=pattern(SIZE), **more)


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
    assert outcome.key_exchanges is None or outcome.key_exchanges > LEAST, outcome.log


@pytest.mark.parametrize("flow", FLOWS)
def test_rekey_by_client(client: Client, flow: str, servers: Servers, user_key: Key) -> None:
    if not client.rekeys:
        pytest.skip(f"{client.name} cannot be told when to rekey")
    if flow == "down" and not client.rekeys_when_receiving:
        pytest.skip(f"{client.name} counts only what it sends")
    outcome, _ = servers.run(client, job_of(flow, user_key, rekey=MIB))
    assert_whole(flow, outcome)
    assert outcome.key_exchanges is not None and outcome.key_exchanges > LEAST, outcome.log


def test_rekey_by_both(client: Client, servers: Servers, user_key: Key) -> None:
    """At the same moment, now and then: both KEXINITs are on the way."""
    if not client.rekeys:
        pytest.skip(f"{client.name} cannot be told when to rekey")
    outcome, _ = servers.run(client, job_of("both", user_key, rekey=MIB), rekey=MIB)
    assert_whole("both", outcome)
    assert outcome.key_exchanges is not None and outcome.key_exchanges > LEAST, outcome.log


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
    openssh: Client, cipher: str, mac: str, compression: str, servers: Servers, user_key: Key
) -> None:
    """New keys reset counters, MAC states and compressors too."""
    algorithms = Algorithms(kex="curve25519-sha256", cipher=cipher, mac=mac, compression=compression)
    outcome, _ = servers.run(openssh, job_of("both", user_key, algorithms=algorithms, rekey=MIB), rekey=MIB)
    assert_whole("both", outcome)
    assert outcome.key_exchanges is not None and outcome.key_exchanges > LEAST, outcome.log
