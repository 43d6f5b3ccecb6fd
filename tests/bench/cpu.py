"""CPU time and memory of a whole process tree: a cgroup where the machine lets us, else the sums in /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def _mount(kind: str, option: str | None) -> Path | None:
    """Where our own cgroup of that hierarchy lies; None: nowhere."""
    ours = None
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if (option is None and controllers == "") or option in controllers.split(","):
            ours = path
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, fstype, options = line.split()[:4]
        if ours is not None and fstype == kind and (option is None or option in options.split(",")):
            return Path(where) / ours.lstrip("/")
    return None


def _stat(pid: int) -> tuple[int, float] | None:
    """Parent, and CPU seconds including those of reaped children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), sum(int(field) for field in fields[11:15]) / TICK


class Group:
    """The processes of one server. `kind` says how its CPU is counted."""

    def __init__(self, kind: str, path: Path | None) -> None:
        self.kind = kind
        self.path = path
        self.root_pid: int | None = None

    def enter(self) -> None:
        """In the child, before exec."""
        if self.path is not None:
            (self.path / "cgroup.procs").write_text("0")

    def pids(self) -> list[int]:
        if self.path is not None:
            return [int(pid) for pid in (self.path / "cgroup.procs").read_text().split()]
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (stat := _stat(int(entry))) is not None:
                parents[int(entry)] = stat[0]
        tree = [self.root_pid] if self.root_pid in parents else []
        for pid in tree:  # grows while we walk
            tree += [child for child, parent in parents.items() if parent == pid]
        return tree

    def seconds(self) -> float:
        if self.kind == "cpuacct":
            return int((self.path / "cpuacct.usage").read_text()) / 1e9
        if self.kind == "cgroup2":
            return int((self.path / "cpu.stat").read_text().split()[1]) / 1e6
        return sum(stat[1] for pid in self.pids() if (stat := _stat(pid)) is not None)

    def memory(self) -> tuple[int, int]:
        """RSS and PSS in bytes, summed."""
        rss = pss = 0
        for pid in self.pids():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            for line in lines:
                if line.startswith("Rss:"):
                    rss += int(line.split()[1]) * 1024
                elif line.startswith("Pss:"):
                    pss += int(line.split()[1]) * 1024
        return rss, pss

    def close(self) -> None:
        """Ends, by pid, what is left of it."""
        if self.path is None:
            return
        for _ in range(50):
            left = self.pids()
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if not left:
                break
            time.sleep(0.05)
        try:
            self.path.rmdir()
        except OSError as error:
            print(f"bench: {self.path}: {error}", file=sys.stderr)


def _try(kind: str, parent: Path | None, name: str) -> Group | None:
    """A group that provably counts."""
    if parent is None:
        return None
    path = parent / f"parley-bench-{os.getpid()}-{name}"
    try:
        path.mkdir()
    except OSError:
        return None
    group = Group(kind, path)
    try:
        burn = "import time\nend = time.process_time() + 0.05\nwhile time.process_time() < end: pass"
        subprocess.run([sys.executable, "-S", "-c", burn], preexec_fn=group.enter, check=True)
        if group.seconds() >= 0.04:
            return group
    except (OSError, ValueError, subprocess.SubprocessError):
        pass
    path.rmdir()
    return None


def new_group(name: str) -> Group:
    return (
        _try("cpuacct", _mount("cgroup", "cpuacct"), name)
        or _try("cgroup2", _mount("cgroup2", None), name)
        or Group("proc", None)
    )
