"""The daemon's log, by connection and kept up to date: a table of a thousand cases cannot parse all of it each time."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from harness.daemon import Daemon, parse_line
from harness.wait import PATIENCE_S

ID = re.compile(r"\b[0-9a-f]{32}\b")
OUTCOMES = ("answered", "absent", "unavailable", "expired", "cancelled")


class DecisionLog:
    """Reads on from where it stopped, on each question."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self._read = 0
        self._by_id: dict[str, list[str]] = defaultdict(list)
        self.ends: Counter[tuple[str, str]] = Counter()  # (rpc, outcome) of all decisions

    def _catch_up(self) -> None:
        lines = self.daemon.lines
        while self._read < len(lines):
            line = lines[self._read]
            self._read += 1
            if found := ID.search(line):
                self._by_id[found.group()].append(line)
            if " event=decision " in line and (fields := parse_line(line)).get("event") == "decision":
                self.ends[fields["rpc"], fields["outcome"]] += 1

    def lines(self, connection: str) -> list[str]:
        with self.daemon.board.look:
            self._catch_up()
            return list(self._by_id[connection])

    def events(self, connection: str, event: str, **fields: str) -> list[dict[str, str]]:
        parsed = [parse_line(line) for line in self.lines(connection) if f" event={event} " in f"{line} "]
        # The text may stand in somebody's words: only the field counts.
        wanted = {"event": event, **fields}
        return [line for line in parsed if all(line.get(k) == v for k, v in wanted.items())]

    def wait(self, connection: str, event: str, timeout: float = PATIENCE_S, **fields: str) -> list[dict[str, str]]:
        """All such lines, once there is one."""
        return self.daemon.board.wait(
            lambda: self.events(connection, event, **fields),
            f"event={event} {fields} of {connection}; its lines: {self.lines(connection)}",
            timeout,
        )

    def total(self) -> Counter[tuple[str, str]]:
        with self.daemon.board.look:
            self._catch_up()
            return Counter(self.ends)


def policy_counts(daemon: Daemon) -> Counter[tuple[str, str]]:
    """What the daemon counted, told at its end."""
    counts: Counter[tuple[str, str]] = Counter()
    for line in daemon.events("policy-counts"):
        for outcome in OUTCOMES:
            if int(line[outcome]):
                counts[line["rpc"], outcome] = int(line[outcome])
    return counts


def check_counts(daemon: Daemon, log: DecisionLog) -> None:
    """Ends the daemon: what it logged of each decision is what it counted; streams have no decision line."""
    daemon.stop()
    counted = {k: v for k, v in policy_counts(daemon).items() if k[0] not in ("Channel", "Supervise") and k[1] != "cancelled"}
    logged = dict(log.total())
    differ = {key: (counted.get(key, 0), logged.get(key, 0)) for key in counted.keys() | logged.keys() if counted.get(key) != logged.get(key)}
    assert not differ, f"(counted, logged) differ: {differ}"


