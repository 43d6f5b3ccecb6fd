"""Fixtures: one policy and a few daemons for the whole run, seven clients, and keys of every kind."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Iterator

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

from harness.daemon import program, run_once  # noqa: E402
from harness.keys import Key  # noqa: E402
from harness.policy import Policy  # noqa: E402
from kit.client import OFFERED, Client  # noqa: E402
from kit.dropbear import Dropbear  # noqa: E402
from kit.house import House  # noqa: E402
from kit.libraries import AsyncSsh, Paramiko  # noqa: E402
from kit.openssh import OpenSsh  # noqa: E402
from kit.programs import Go, Rust  # noqa: E402
from kit.putty import Plink  # noqa: E402
from kit.servers import Servers  # noqa: E402

# The built clients come last: the others tell more when the daemon itself is broken.
CLIENTS: tuple[type[Client], ...] = (OpenSsh, Dropbear, Plink, AsyncSsh, Paramiko, Go, Rust)
KINDS = {
    "ed25519": ("ed25519", 0),
    "nistp256": ("ecdsa", 256),
    "nistp384": ("ecdsa", 384),
    "nistp521": ("ecdsa", 521),
    "rsa": ("rsa", 2048),
}


def make(path: Path, kind: str) -> Key:
    """With a comment: paramiko cannot read some keys without (it takes the comment's length, zero, for padding)."""
    name, bits = KINDS[kind]
    size = ["-b", str(bits)] if bits else []
    command = ["ssh-keygen", "-q", "-t", name, *size, "-N", "", "-C", "interop", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return Key(path)


def pytest_sessionstart() -> None:
    if not Path(program()).is_file():
        pytest.exit(f"{program()} is not built (or set PARLEYD)", returncode=2)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests with a `client` run once for each; those with an algorithm too, for each that the client has."""
    kind = next((kind for kind in (*OFFERED, "userkey") if kind in metafunc.fixturenames), None)
    if "client" not in metafunc.fixturenames:
        return
    if kind is None:
        metafunc.parametrize("client", CLIENTS, ids=[c.name for c in CLIENTS], indirect=True)
        return
    cells = [(c, name) for c in CLIENTS for name in c.supports[kind]]
    ids = [f"{c.name}-{name}" for c, name in cells]
    metafunc.parametrize(("client", kind), cells, ids=ids, indirect=["client"])


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A private directory with a path short enough for Unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="parley-io-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def host_keys(scratch: Path) -> dict[str, Key]:
    return {name: make(scratch / f"host_{name}", name) for name in KINDS}


@pytest.fixture(scope="session")
def user_keys(scratch: Path) -> dict[str, Key]:
    """By the name of their kind."""
    return {name: make(scratch / f"user_{name}", name) for name in KINDS}


@pytest.fixture(scope="session")
def house(scratch: Path, user_keys: dict[str, Key]) -> Iterator[House]:
    with Policy(f"unix:{scratch}/policy.sock") as policy:
        yield House(policy, user_keys.values())


@pytest.fixture(scope="session")
def library() -> str:
    """ "libssh 0.12.2", from --version."""
    told = run_once("--version").stdout
    found = re.search(r"libssh [\d.]+", told)
    assert found, told
    return found[0]


@pytest.fixture(scope="session")
def servers(scratch: Path, house: House, host_keys: dict[str, Key]) -> Iterator[Servers]:
    servers = Servers(scratch, host_keys)
    yield servers
    servers.stop()


@pytest.fixture
def client(request: pytest.FixtureRequest, scratch: Path) -> Client:
    """Each client in turn; skips where this machine lacks it."""
    client = request.param(scratch / request.param.name)
    client.check()
    return client


@pytest.fixture
def openssh(scratch: Path) -> OpenSsh:
    """For what only one client needs to show, or can."""
    client = OpenSsh(scratch / "openssh")
    client.check()
    return client


@pytest.fixture
def rust(scratch: Path) -> Rust:
    client = Rust(scratch / "rust")
    client.check()
    return client


@pytest.fixture
def everyone(scratch: Path) -> list[Client]:
    """All clients that this machine has."""
    found: list[Client] = []
    for kind in CLIENTS:
        client = kind(scratch / kind.name)
        with suppress(pytest.skip.Exception):
            client.check()
            found.append(client)
    return found


@pytest.fixture
def user_key(user_keys: dict[str, Key]) -> Key:
    return user_keys["ed25519"]
