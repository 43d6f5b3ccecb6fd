"""What is measured. Each function takes one round's figures of one server and adds them to the results."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from jump import Target, Way
from report import Results
from servers import HERE, ROOT, Failure, Load, Parley, Peer, Server

CIPHERS = ("aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com")
SETTLE_S = 0.15  # what a server does after its client has gone still counts
ENDLESS = 1 << 42
WARM_UP_LOGINS = 64


@dataclass
class Sizes:
    """How much work one round has."""

    rounds: int
    logins: int
    slow_logins: int  # sshd: a process each
    parallel: int
    bulk: int
    slow_bulk: int  # asyncssh
    echoes: int
    decisions: int
    idle: int
    slow_idle: int
    crowd: int
    crowd_logins: int
    crowd_repeats: int
    guesses: int  # of each kind


FULL = Sizes(5, 1000, 160, 16, 512 << 20, 128 << 20, 2000, 5000, 1000, 1000, 10000, 400, 5, 2500)
QUICK = Sizes(3, 200, 48, 16, 64 << 20, 24 << 20, 300, 1500, 300, 60, 1500, 200, 3, 300)


class Bench:
    """The servers, the sizes and where the figures go."""

    def __init__(self, build: Path, sizes: Sizes, results: Results) -> None:
        self.build = build
        self.sizes = sizes
        self.results = results

    def load(self, server: Server, mode: str, **options: object) -> Load:
        return Load(self.build, server, mode, **options)

    def add(self, work: str, server: str, value: float) -> None:
        self.results.add(work, server, value)


class Meter:
    """CPU seconds of a server, its policy's apart, between start and stop."""

    def __init__(self, server: Server) -> None:
        self.groups = {server.name: server.process.group}
        if isinstance(server, Parley):
            self.groups["policy"] = server.policy.group
        self.before = {name: group.seconds() for name, group in self.groups.items()}

    def stop(self) -> dict[str, float]:
        time.sleep(SETTLE_S)
        return {name: group.seconds() - self.before[name] for name, group in self.groups.items()}


def run_logins(bench: Bench, server: Server, count: int, parallel: int) -> dict:
    load = bench.load(server, "login", command=server.command("true"), count=count, parallel=parallel)
    line = load.line()
    load.finish()
    return json.loads(line)


def login(bench: Bench, server: Server) -> None:
    sizes = bench.sizes
    count = sizes.slow_logins if server.name == "sshd" else sizes.logins
    meter = Meter(server)
    result = run_logins(bench, server, count, sizes.parallel)
    for name, seconds in meter.stop().items():
        bench.add("login_cpu", name, seconds / count * 1e3)
    bench.add("login_rate", server.name, result["per_second"])
    bench.add("login_p50", server.name, result["total_p50_ms"])


def bulk(bench: Bench, server: Server, direction: str, cipher: str) -> None:
    size = bench.sizes.slow_bulk if server.name == "asyncssh" else bench.sizes.bulk
    command = server.command("source", size) if direction == "down" else server.command("sink")
    transfer(bench, server, direction, cipher, size, command, "")


def process(bench: Bench, server: Server, direction: str, cipher: str) -> None:
    """From and to a program on the server's machine, whose CPU counts on both sides."""
    if not server.programs:
        return
    size = bench.sizes.bulk
    command = server.programs[direction].format(size)
    transfer(bench, server, direction, cipher, size, command, "process_")


def forward(bench: Bench, server: Server, direction: str, cipher: str) -> None:
    """Through a direct-tcpip channel, as `ssh -L` opens it."""
    if not server.forwards:
        return
    size = bench.sizes.bulk
    peer = Peer(size)
    try:
        transfer(bench, server, direction, cipher, size, "", "forward_", forward=peer.ports[direction])
    finally:
        peer.stop()


def upstream(bench: Bench, server: Server, target: Target) -> None:
    """Through the server as a jump host: ours ends the client's SSH and is a client of the target's; through sshd it is
    `ssh -J`, so that the client has both, and sshd passes bytes that it cannot read."""
    if not server.forwards:
        return
    size = bench.sizes.bulk
    way = Way(server, target)
    peer = Peer(size)
    cipher = target.cipher.partition("@")[0].partition("-poly")[0]
    time.sleep(SETTLE_S)
    try:
        for direction in ("down", "up"):
            carry(bench, server, way, f"upstream_{direction}_{cipher}", direction, size)
            if cipher == "aes128-gcm":
                carry(bench, server, way, f"upstream_w_{direction}_{cipher}", direction, size, peer.ports[direction])
    finally:
        peer.stop()
        way.close()


def carry(bench: Bench, server: Server, way: Way, key: str, direction: str, size: int, forward: int | None = None) -> None:
    meter = Meter(server)
    seconds = way.move(direction, size, forward)
    for name, spent in meter.stop().items():
        bench.add(f"{key}_cpu", name, spent / (size / 1e9))
    bench.add(f"{key}_speed", server.name, size / 1e6 / seconds)


def transfer(
    bench: Bench, server: Server, direction: str, cipher: str, size: int, command: str, prefix: str, **more: object
) -> None:
    load = bench.load(server, "bulk", direction=direction, cipher=cipher, bytes=size, command=command, **more)
    load.line()  # logged in
    time.sleep(SETTLE_S)
    meter = Meter(server)
    load.go()
    result = json.loads(load.line())
    spent = meter.stop()
    load.finish()
    if not result["ok"]:
        raise Failure(f"bulk {direction} on {server.name} lost bytes")
    key = f"{prefix}{direction}_{cipher.partition('@')[0].partition('-poly')[0]}"
    for name, seconds in spent.items():
        bench.add(f"{key}_cpu", name, seconds / (size / 1e9))
    bench.add(f"{key}_speed", server.name, result["mb_per_second"])


def process_login(bench: Bench, server: Server) -> None:
    """Logins that each run a program."""
    if not server.programs:
        return
    count = bench.sizes.slow_logins
    meter = Meter(server)
    load = bench.load(server, "login", command=server.programs["true"], count=count, parallel=bench.sizes.parallel)
    load.line()
    load.finish()
    bench.add("process_login_cpu", server.name, meter.stop()[server.name] / count * 1e3)


def echo(bench: Bench, server: Server, beside: bool) -> None:
    command = server.command("source", ENDLESS)
    other = bench.load(server, "bulk", direction="down", bytes=ENDLESS, command=command) if beside else None
    try:
        if other is not None:
            other.line()
            other.go()
            time.sleep(0.3)
        load = bench.load(server, "echo", command=server.command("echo"), count=bench.sizes.echoes)
        load.line()
        load.go()
        result = json.loads(load.line())
        load.finish()
    finally:
        if other is not None:
            other.end()
    for quantile in ("p50", "p99"):
        work = f"echo_{'beside_' if beside else ''}{quantile}"
        bench.add(work, server.name, result[f"{quantile}_ms"] * 1e3)
    if beside:
        time.sleep(SETTLE_S)


def decision(bench: Bench, server: Parley) -> None:
    """Asked on a loop and answered on it, beside a bare call of gRPC C core."""
    program = str(bench.build / "bench/parley-bench-decision")
    with (server.work / "decision.log").open("wb") as log:
        out = subprocess.run(
            [program, server.policy_address, str(bench.sizes.rounds), str(bench.sizes.decisions)],
            stdout=subprocess.PIPE,
            stderr=log,
            check=True,
        ).stdout
    for line in out.splitlines():
        row = json.loads(line)
        for quantile in ("p50", "p99"):
            bench.add(f"decision_{quantile}", "parleyd", row[f"asker_{quantile}_us"])
            bench.add(f"decision_{quantile}", "bare gRPC", row[f"bare_{quantile}_us"])


def idle(bench: Bench, server: Server, work: str = "idle", **more: object) -> None:
    """Memory of idle connections, of a server that has already worked a little."""
    server.start()
    try:
        run_logins(bench, server, WARM_UP_LOGINS, bench.sizes.parallel)
        time.sleep(1)
        before = server.memory()
        count = bench.sizes.slow_idle if server.name == "sshd" else bench.sizes.idle
        load = bench.load(server, "hold", count=count, parallel=bench.sizes.parallel, **more)
        held = json.loads(load.line())["held"]
        load.line()
        time.sleep(1)
        after = server.memory()
        load.go()
        load.line()
        load.finish()
        if held != count:
            raise Failure(f"{server.name} held {held} of {count} connections")
    finally:
        server.stop()
    for kind, old, new in zip(("rss", "pss"), before, after):
        bench.add(f"{work}_{kind}", server.name, (new - old) / count / 1024)


def crowd(bench: Bench, server: Parley) -> None:
    """Very many idle connections, and the latency of logins beside them."""
    sizes = bench.sizes

    def p99() -> float:
        return median(
            run_logins(bench, server, sizes.crowd_logins, 2)["total_p99_ms"] for _ in range(sizes.crowd_repeats)
        )

    server.start()
    try:
        run_logins(bench, server, WARM_UP_LOGINS, sizes.parallel)
        alone = p99()
        load = bench.load(server, "hold", count=sizes.crowd, parallel=sizes.parallel)
        held = json.loads(load.line())["held"]
        load.line()
        beside = p99()
        load.go()
        held = min(held, json.loads(load.line())["alive"])
        load.finish()
    finally:
        server.stop()
    bench.add("crowd_held", server.name, held)
    bench.add("crowd_p99_before", server.name, alone)
    bench.add("crowd_p99_with", server.name, beside)


def guess(bench: Bench, server: Parley) -> None:
    """What the time of a refusal tells of a user's existence."""
    program = [str(ROOT / ".venv/bin/python"), "-B", str(HERE / "guess.py")]
    args = [str(bench.build), str(server.keys.host_key), str(bench.sizes.guesses)]
    out = subprocess.run([*program, *args], stdout=subprocess.PIPE, check=True).stdout
    for kind, value in json.loads(out).items():
        bench.add(f"guess_{kind}", server.name, value)
