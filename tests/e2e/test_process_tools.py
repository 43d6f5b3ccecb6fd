"""Programs that people run over SSH, against the stock servers on the daemon's machine: sftp, scp, rsync, git."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from harness.answers import SFTP_SERVERS, process_house
from harness.clients import OpenSsh
from harness.policy import Policy

needs_sftp = pytest.mark.skipif(not any(map(os.path.exists, SFTP_SERVERS)), reason="no sftp-server (openssh-sftp-server)")


def needs(tool: str) -> Callable:
    return pytest.mark.skipif(not shutil.which(tool), reason=f"{tool} is not installed")


@pytest.fixture
def tree(work: Path) -> Path:
    """Files of several sizes and names, an executable one, a link, an empty directory."""
    tree = work / "tree"
    (tree / "sub dir" / "empty").mkdir(parents=True)
    (tree / "large").write_bytes(os.urandom(3_000_001))
    (tree / "sub dir" / "with spaces ü").write_text("text\n")
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    (tree / "link").symlink_to("large")
    (tree / "nothing").write_bytes(b"")
    return tree


def snapshot(folder: Path) -> dict[str, object]:
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.is_dir() or (path.stat().st_mode & 0o777, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
    }


def options(ssh: OpenSsh) -> list[str]:
    """What scp and sftp take of the ssh line: all but the program, the port and the destination."""
    argv = ssh.argv()
    at = argv.index("-l")
    return [*argv[1 : argv.index("-p")], *argv[at + 2 : -1]]


def run(argv: list[str], ssh: OpenSsh, **how: object) -> subprocess.CompletedProcess:
    done = subprocess.run(argv, env=ssh.env(extra=how.pop("env", None)), capture_output=True, timeout=60, **how)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done


@needs_sftp
@needs("sftp")
def test_sftp(policy: Policy, ssh: OpenSsh, tree: Path, work: Path) -> None:
    process_house(policy)
    batch = work / "batch"
    batch.write_text(
        f"put -r {tree} {work}/there\nget -r {work}/there {work}/back\nls -l {work}/there\n"
        f"rename {work}/there/run {work}/there/walk\nchmod 600 {work}/there/walk\nrm {work}/there/nothing\n"
    )
    done = run(["sftp", *options(ssh), "-P", str(ssh.port), "-b", str(batch), "alice@127.0.0.1"], ssh)
    assert b"large" in done.stdout
    assert (work / "back" / "large").read_bytes() == (tree / "large").read_bytes()
    assert (work / "back" / "sub dir" / "with spaces ü").read_text() == "text\n"
    assert (work / "there" / "walk").stat().st_mode & 0o777 == 0o600
    assert not (work / "there" / "nothing").exists()
    assert policy.wait_for("SubsystemRequested").name == b"sftp"


@needs("scp")
@pytest.mark.parametrize("protocol", ["-O", pytest.param("-s", marks=needs_sftp)])
def test_scp(policy: Policy, ssh: OpenSsh, tree: Path, work: Path, protocol: str) -> None:
    """The old protocol and the one over sftp."""
    process_house(policy)
    scp = ["scp", protocol, "-r", "-p", *options(ssh), "-P", str(ssh.port)]
    run([*scp, str(tree), f"alice@127.0.0.1:{work}/there"], ssh)
    run([*scp, f"alice@127.0.0.1:{work}/there", str(work / "back")], ssh)
    for name in ("large", "run", "sub dir/with spaces ü", "nothing"):
        assert (work / "back" / name).read_bytes() == (tree / name).read_bytes()
        assert (work / "back" / name).stat().st_mode == (tree / name).stat().st_mode
    assert len(policy.requests("ExecRequested" if protocol == "-O" else "SubsystemRequested")) == 2


@needs("rsync")
def test_rsync(policy: Policy, ssh: OpenSsh, tree: Path, work: Path) -> None:
    """There, changed and there again, and back: equal trees."""
    process_house(policy)
    rsh = " ".join(map(shlex.quote, ["ssh", *options(ssh), "-p", str(ssh.port)]))
    rsync = ["rsync", "-a", "-z", "--ignore-times", "--delete", "-e", rsh]  # all in one second
    there = f"alice@127.0.0.1:{work}/there/"
    run([*rsync, f"{tree}/", there], ssh)
    assert snapshot(work / "there") == snapshot(tree)
    with (tree / "large").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"changed")
    (tree / "nothing").unlink()
    run([*rsync, f"{tree}/", there], ssh)
    assert snapshot(work / "there") == snapshot(tree)
    run([*rsync, there, f"{work}/back/"], ssh)
    assert snapshot(work / "back") == snapshot(tree)


@needs("git")
def test_git(policy: Policy, ssh: OpenSsh, tree: Path, work: Path) -> None:
    """Clone, commit, push, fetch."""
    process_house(policy, keep_environment=True)
    env = {
        "GIT_SSH_COMMAND": " ".join(map(shlex.quote, ["ssh", *options(ssh)])),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "test@test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }

    def git(folder: Path, *args: str) -> str:
        return run(["git", *args], ssh, env=env, cwd=folder).stdout.decode().strip()

    bare = work / "repository.git"
    git(work, "init", "-q", "--bare", "-b", "main", str(bare))
    url = f"ssh://alice@127.0.0.1:{ssh.port}{bare}"
    git(work, "clone", "-q", url, "one")
    shutil.copytree(tree, work / "one" / "tree", symlinks=True)
    git(work / "one", "checkout", "-q", "-b", "main")
    git(work / "one", "add", ".")
    git(work / "one", "commit", "-q", "-m", "first")
    git(work / "one", "push", "-q", "-u", "origin", "main")
    git(work, "clone", "-q", url, "two")
    assert (work / "two" / "tree" / "large").read_bytes() == (tree / "large").read_bytes()
    git(work / "two", "commit", "-q", "--allow-empty", "-m", "second")
    git(work / "two", "push", "-q")
    git(work / "one", "pull", "-q")
    assert git(work / "one", "log", "--format=%s") == "second\nfirst"
    assert any(b"git-upload-pack" in request.command for request in policy.requests("ExecRequested"))
