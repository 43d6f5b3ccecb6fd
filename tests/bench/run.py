#!/usr/bin/python3
"""Measures parleyd beside OpenSSH's sshd and asyncssh, on loopback, in interleaved rounds: ./dev bench runs it."""

from __future__ import annotations

import argparse
import dataclasses
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import report
import works
from jump import Target
from servers import ROOT, Asyncssh, Failure, Keys, Parley, Server, Sshd

SPARE_FILES = 512
GROUPS = ("login", "bulk", "process", "forward", "upstream", "echo", "decision", "idle", "crowd", "guess")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and less work: under two minutes")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 5, quick 3)")
    parser.add_argument("--only", metavar="GROUP,...", help="some of: " + ", ".join(GROUPS))
    parser.add_argument("--servers", metavar="NAME,...", default="parleyd,sshd,asyncssh")
    parser.add_argument("--markdown", action="store_true", help="print the table for the README, too")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="where parleyd was built")
    parser.add_argument("--out", type=Path, default=ROOT / "build/bench", help="where latest.* go")
    parser.add_argument(
        "--parleyd-arg", action="append", default=[], metavar="ARG", help="for the daemon, like --parleyd-arg=--workers=1"
    )
    args = parser.parse_args()
    if args.only and (wrong := set(args.only.split(",")) - set(GROUPS)):
        parser.error(f"no such group: {', '.join(sorted(wrong))}")
    return args


def raise_files(wanted: int) -> int:
    """The number of descriptors that a server can have; each program inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
        except (OSError, ValueError):
            pass
    limit = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
    return max(soft, limit)


def step(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Run:
    """One run of the bench, from keys to table."""

    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        sizes = works.QUICK if args.quick else works.FULL
        files = raise_files(sizes.crowd + SPARE_FILES)
        if files < sizes.crowd + SPARE_FILES:
            step(f"only {files} descriptors: holding fewer connections")
            sizes = dataclasses.replace(sizes, crowd=files - SPARE_FILES)
        if args.rounds:
            sizes = dataclasses.replace(sizes, rounds=args.rounds)
        keys = Keys(work)
        self.groups = set(args.only.split(",")) if args.only else set(GROUPS)
        self.parley = Parley(work, keys, args.build, args.parleyd_arg)
        everyone = [self.parley, Sshd(work, keys), Asyncssh(work, keys)]
        self.servers = [server for server in everyone if server.name in args.servers.split(",")]
        self.targets = [Target(work, keys, cipher) for cipher in works.CIPHERS] if "upstream" in self.groups else []
        self.results = report.Results()
        self.bench = works.Bench(args.build, sizes, self.results)
        self.words = {
            "parallel": sizes.parallel,
            "rounds": sizes.rounds,
            "versions": ", ".join(server.version() for server in self.servers),
        }

    def jobs(self) -> list:
        """What each round does with each server."""
        jobs = []
        if "login" in self.groups:
            jobs.append(works.login)
        if "bulk" in self.groups:
            for cipher in works.CIPHERS:
                for way in ("down", "up"):
                    jobs.append(lambda bench, server, way=way, cipher=cipher: works.bulk(bench, server, way, cipher))
        if "process" in self.groups:
            jobs.append(works.process_login)
            for cipher in works.CIPHERS:
                for way in ("down", "up"):
                    jobs.append(lambda bench, server, way=way, cipher=cipher: works.process(bench, server, way, cipher))
        if "forward" in self.groups:
            for cipher in works.CIPHERS:
                for way in ("down", "up"):
                    jobs.append(lambda bench, server, way=way, cipher=cipher: works.forward(bench, server, way, cipher))
        if "upstream" in self.groups:
            for target in self.targets:
                jobs.append(lambda bench, server, target=target: works.upstream(bench, server, target))
        if "echo" in self.groups:
            jobs += [lambda bench, server, beside=beside: works.echo(bench, server, beside) for beside in (False, True)]
        return jobs

    def rounds(self) -> None:
        jobs = self.jobs()
        for target in self.targets:
            target.start()
        for server in self.servers:
            server.start()
            if jobs:
                works.run_logins(self.bench, server, 2 * self.words["parallel"], self.words["parallel"])
        for index in range(self.words["rounds"] if jobs else 0):
            step(f"round {index + 1} of {self.words['rounds']}")
            turn = index % len(self.servers)
            for job in jobs:
                for server in self.servers[turn:] + self.servers[:turn]:
                    job(self.bench, server)
        if "decision" in self.groups and self.parley in self.servers:
            step("decisions")
            works.decision(self.bench, self.parley)
        self.stop()

    def apart(self) -> None:
        """What wants a fresh server."""
        if "idle" in self.groups:
            for server in self.servers:
                step(f"idle connections: {server.name}")
                works.idle(self.bench, server)
            if self.parley in self.servers:
                step("idle connections: parleyd, supervised")
                works.idle(self.bench, self.parley, "supervised", user="supervised")
        if "crowd" in self.groups and self.parley in self.servers:
            step(f"{self.bench.sizes.crowd} idle connections")
            works.crowd(self.bench, self.parley)
        if "guess" in self.groups and self.parley in self.servers:
            step("wrong passwords")
            works.guess(self.bench, self.parley)

    def stop(self) -> None:
        for server in [*self.servers, *self.targets]:
            server.stop()


def on_signal(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    args = parse()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    started = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="parley-bench."))
    run = None
    try:
        run = Run(args, work)
        step(f"{report.machine()}; {run.words['versions']}")
        run.rounds()
        run.apart()
    except Failure as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    finally:
        if run is not None:
            run.stop()
        shutil.rmtree(work, ignore_errors=True)
    summary = run.results.summary()
    report.write(summary, run.words, args.out)
    print(report.text(summary, run.words))
    if args.markdown:
        print("\n" + report.markdown(summary, run.words))
    step(f"{time.monotonic() - started:.0f} s; {args.out}/latest.svg, latest.json, latest.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
