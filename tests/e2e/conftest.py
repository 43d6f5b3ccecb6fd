"""Fixtures: each test has a private directory, policy, daemon and port, and leaves nothing behind."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Callable, Iterator

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness.asyncserver import AsyncServer  # noqa: E402
from harness.clients import OpenSsh  # noqa: E402
from harness.daemon import Daemon, program  # noqa: E402
from harness.keys import Key, make_key  # noqa: E402
from harness.policy import Policy  # noqa: E402
from harness.rawclient import RawClient  # noqa: E402
from harness.rawserver import RawServer, Script, ServerKey  # noqa: E402
from harness.sshd import Sshd  # noqa: E402


def pytest_sessionstart() -> None:
    if not Path(program()).is_file():
        pytest.exit(f"{program()} is not built (or set PARLEYD)", returncode=2)


@pytest.fixture(scope="session")
def keys() -> Iterator[Path]:
    """Private keys for the whole run: "host" is the daemons', "user" and "other" are people's."""
    folder = Path(tempfile.mkdtemp(prefix="parley-keys-"))
    for name in ("host", "user", "other"):
        make_key(folder / name)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def host_key(keys: Path) -> Key:
    return Key(keys / "host")


@pytest.fixture(scope="session")
def user_key(keys: Path) -> Key:
    return Key(keys / "user")


@pytest.fixture(scope="session")
def other_key(keys: Path) -> Key:
    return Key(keys / "other")


@pytest.fixture
def work() -> Iterator[Path]:
    """A private directory with a path short enough for Unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="parley-e2e-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def policy(work: Path) -> Iterator[Policy]:
    """A policy that answers UNIMPLEMENTED to everything until the test says more."""
    with Policy(f"unix:{work}/policy.sock") as policy:
        yield policy


StartDaemon = Callable[..., Daemon]


@pytest.fixture
def start_daemon(work: Path, host_key: Key) -> Iterator[StartDaemon]:
    """start_daemon(*flags, policy=…): starts one more daemon and waits until it is ready. All must be alive and end well at the end of
    the test, unless the test has ended them itself."""
    daemons: list[Daemon] = []

    def start(*flags: str, policy: str | None = None, ready: bool = True, env: dict[str, str] | None = None) -> Daemon:
        target = policy if policy is not None else f"unix:{work}/policy.sock"
        args = ["--listen", "127.0.0.1:0", "--host-key", str(host_key.path)]
        args += ["--policy", target] if target else []
        daemon = Daemon([*args, *flags], env=env, cwd=work)
        daemons.append(daemon)
        return daemon.wait_ready() if ready else daemon

    yield start
    try:
        for daemon in daemons:
            if daemon.process.returncode is None:
                daemon.stop()
            else:
                daemon.check_clean()
    finally:
        for daemon in daemons:
            daemon.kill()


@pytest.fixture
def daemon(policy: Policy, start_daemon: StartDaemon) -> Daemon:
    """A daemon with default settings that asks `policy`."""
    return start_daemon()


@pytest.fixture
def connect_ssh(work: Path, host_key: Key) -> Iterator[Callable[[Daemon], OpenSsh]]:
    """OpenSSH clients of a daemon that the test started itself."""
    clients: list[OpenSsh] = []

    def connect(daemon: Daemon) -> OpenSsh:
        clients.append(OpenSsh(daemon.port, work, host_key))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def ssh(daemon: Daemon, connect_ssh: Callable[[Daemon], OpenSsh]) -> OpenSsh:
    """The OpenSSH client, for `daemon`."""
    return connect_ssh(daemon)


@pytest.fixture
def raw(daemon: Daemon) -> Iterator[Callable[..., RawClient]]:
    """raw(): one more hostile client, past the key exchange."""
    clients: list[RawClient] = []

    def connect(**how: object) -> RawClient:
        clients.append(RawClient(how.pop("port", daemon.port), **how))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


# ---- servers to go on to


@pytest.fixture
def start_sshd(work: Path, other_key: Key, user_key: Key) -> Iterator[Callable[..., Sshd]]:
    """start_sshd(*lines, host_key=…, user_key=…, address=…): one more sshd, with these lines in its configuration."""
    servers: list[Sshd] = []

    def start(*lines: str, **how: object) -> Sshd:
        keys = how.pop("host_key", other_key), how.pop("user_key", user_key)
        servers.append(Sshd(work / f"sshd-{len(servers)}", *keys, *lines, **how))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def sshd(start_sshd: Callable[..., Sshd]) -> Sshd:
    return start_sshd()


@pytest.fixture
def start_raw_server(other_key: Key) -> Iterator[Callable[..., RawServer]]:
    """start_raw_server(script): one more hostile server."""
    servers: list[RawServer] = []

    def start(script: Script, key: ServerKey | None = None, **how: object) -> RawServer:
        servers.append(RawServer(script, key or ServerKey(other_key), **how))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def start_async_server() -> Iterator[Callable[..., AsyncServer]]:
    """start_async_server(factory, places, …): servers of asyncssh's."""
    servers: list[AsyncServer] = []

    def start(*args: object, **how: object) -> AsyncServer:
        servers.append(AsyncServer(*args, **how))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
