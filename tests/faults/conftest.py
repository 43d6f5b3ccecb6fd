"""Fixtures: those of the end-to-end tests, and daemons whose books are kept."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Callable, Iterator

import pytest

HERE = Path(__file__).resolve().parent
E2E = HERE.parent / "e2e"
sys.path[:0] = [str(HERE), str(E2E)]

from faultkit.books import Books  # noqa: E402
from faultkit.client import Bystander  # noqa: E402
from faultkit.table import SHORT_DEADLINES, Table, opened_table  # noqa: E402
from harness.answers import open_house  # noqa: E402
from harness.daemon import Daemon  # noqa: E402
from harness.keys import Key  # noqa: E402
from harness.policy import Policy  # noqa: E402

# By path: both folders have a conftest.py, and only one module can be called so.
_spec = importlib.util.spec_from_file_location("parley_e2e_conftest", E2E / "conftest.py")
_e2e = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_e2e)

pytest_sessionstart = _e2e.pytest_sessionstart
keys, host_key, work, policy, start_daemon = _e2e.keys, _e2e.host_key, _e2e.work, _e2e.policy, _e2e.start_daemon

# One loop for everybody: what one client does to it, all others feel.
ONE_LOOP = ("--workers", "1")


@pytest.fixture
def daemon(policy: object, start_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon with one worker that asks `policy`."""
    return start_daemon(*ONE_LOOP)


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, host_key: Key) -> Iterator[tuple[Policy, Daemon]]:
    """One policy, whose sessions run the module's `program`, and one daemon for all tests of a module: hundreds of short ones would take
    longer to start their own than to run, and what one leaves behind the next one notices."""
    folder = Path(tempfile.mkdtemp(prefix="parley-faults-"))
    with open_house(Policy(f"unix:{folder}/policy.sock"), request.module.program) as policy:
        flags = ["--listen", "127.0.0.1:0", "--host-key", str(host_key.path), "--policy", policy.target, *ONE_LOOP]
        daemon = Daemon(flags, cwd=folder)
        try:
            yield policy, daemon.wait_ready()
            daemon.stop()
        finally:
            daemon.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def table(host_key: Key) -> Iterator[Table]:
    """A policy whose answers are spoilt, case by case."""
    with opened_table(host_key) as table:
        yield table


@pytest.fixture(scope="module")
def hasty(host_key: Key) -> Iterator[Table]:
    """Another, whose daemon waits no longer than a test does."""
    with opened_table(host_key, *SHORT_DEADLINES) as table:
        yield table


@pytest.fixture
def bystand() -> Iterator[Callable[[Daemon], Bystander]]:
    """bystand(daemon): one more honest client, let in by the policy as "bystander" and given a `cat`."""
    made: list[Bystander] = []

    def make(daemon: Daemon) -> Bystander:
        made.append(Bystander(daemon.port))
        return made[-1]

    yield make
    for bystander in made:
        bystander.client.close()


@pytest.fixture
def open_books() -> Callable[[Daemon], Books]:
    """open_books(daemon): call it once the first clients have come and gone."""
    return Books
