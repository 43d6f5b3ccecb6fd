"""Everything that we offer, with every client that has it: small programs, since only the algorithms are in question."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.keys import Key
from kit.client import CTR, MLKEM, OFFERED, SNTRUP, Algorithms, Client, Job
from kit.house import House, digest, pattern
from kit.servers import Servers

SIZE = 150_000  # some packets of all sizes, in both directions


def echo(servers: Servers, client: Client, job: Job) -> dict[str, str]:
    """Runs the job's echo to its end; what the daemon says about the connection."""
    outcome, facts = servers.run(client, replace(job, command=f"echo {SIZE}", stdin=pattern(SIZE)))
    assert (outcome.status, outcome.size, outcome.sha256) == (0, SIZE, digest(SIZE)), outcome
    return facts


def key_of(user_keys: dict[str, Key], algorithm: str) -> Key:
    return user_keys["rsa" if algorithm.startswith("rsa") else algorithm.rpartition("-")[2]]


def test_kex(client: Client, kex: str, servers: Servers, library: str, user_key: Key) -> None:
    if kex in MLKEM + SNTRUP and library == "libssh 0.11.5":
        pytest.skip(f"{library} has no post-quantum key exchange")
    facts = echo(servers, client, Job(key=user_key, algorithms=Algorithms(kex=kex)))
    assert facts["kex"] == kex


def test_cipher(client: Client, cipher: str, servers: Servers, user_key: Key) -> None:
    facts = echo(servers, client, Job(key=user_key, algorithms=Algorithms(cipher=cipher)))
    assert facts["cipher"] == cipher


def test_mac(client: Client, mac: str, servers: Servers, user_key: Key) -> None:
    facts = echo(servers, client, Job(key=user_key, algorithms=Algorithms(cipher="aes128-ctr", mac=mac)))
    assert (facts["cipher"], facts["mac"]) == ("aes128-ctr", mac)


def test_host_key(client: Client, hostkey: str, servers: Servers, user_key: Key) -> None:
    facts = echo(servers, client, Job(key=user_key, algorithms=Algorithms(hostkey=hostkey)))
    assert facts["hostkey"] == hostkey


def test_user_key(client: Client, userkey: str, servers: Servers, house: House, user_keys: dict[str, Key]) -> None:
    signature = userkey if userkey.startswith("rsa") else ""
    job = Job("greet 0", key=key_of(user_keys, userkey), signature=signature)
    outcome, _ = servers.run(client, job)
    assert outcome.status == 0, outcome
    assert house.login(job.user) == ("publickey", userkey)


@pytest.mark.parametrize("mac", OFFERED["mac"])
@pytest.mark.parametrize("cipher", CTR[1:])
def test_cipher_with_mac(openssh: Client, cipher: str, mac: str, servers: Servers, user_key: Key) -> None:
    """The rest of the matrix; OpenSSH has it all."""
    facts = echo(servers, openssh, Job(key=user_key, algorithms=Algorithms(cipher=cipher, mac=mac)))
    assert (facts["cipher"], facts["mac"]) == (cipher, mac)


def test_compression(client: Client, servers: Servers, user_key: Key) -> None:
    """zlib@openssh.com: what compresses well, and what does not."""
    if not client.compresses:
        pytest.skip(f"{client.name} does not compress")
    job = Job(key=user_key, algorithms=Algorithms(compression="zlib@openssh.com"))
    echo(servers, client, job)
    text = b"the same line again and again\n" * 20_000
    outcome, facts = servers.run(client, Job(f"echo {len(text)}", key=user_key, algorithms=job.algorithms, stdin=text))
    assert (outcome.status, outcome.size) == (0, len(text))
    assert max(int(facts["bytes_in"]), int(facts["bytes_out"])) < len(text) // 4, facts


def test_nothing_offered_goes_untried() -> None:
    """Another algorithm in the daemon needs a client here."""
    for kind, names in OFFERED.items():
        from conftest import CLIENTS

        assert set(names) <= {name for client in CLIENTS for name in client.supports[kind]}, kind
