"""How long a wrong password takes: for users that exist, on whom the policy spends time, and for those that do not.

guess.py BUILD HOST_KEY TRIES: prints the medians in milliseconds. It has the end-to-end tests' client and policy.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

BUILD, HOST_KEY, TRIES = sys.argv[1:]
os.environ["PARLEYD"] = f"{BUILD}/parleyd"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from harness.answers import PASSWORD, begin, password_no  # noqa: E402
from harness.daemon import Daemon  # noqa: E402
from harness.policy import Policy  # noqa: E402
from harness.rawclient import RawClient  # noqa: E402

AT_ONCE = 2  # connections
NAMES = 250  # of each kind on one connection, which has its limits
HASHING_S = 0.002  # what a policy's password hash may take
OPEN = ("--max-failures=1000", "--max-requests=1000", "--login-timeout=0", "--penalties=off")


async def check(request: Any, _context: Any) -> Any:
    if request.context.user.startswith("known"):
        await asyncio.sleep(HASHING_S)
    return password_no()


def attack(port: int, numbers: range) -> dict[str, list[float]]:
    """Each name once, since the time depends on it; the two kinds in turn, so that both meet the same noise."""
    took: dict[str, list[float]] = {"known": [], "unknown": []}
    client = RawClient(port)
    client.service()
    for number in numbers:
        for kind, times in took.items():
            began = time.perf_counter()
            client.try_password(f"{kind}-{number}", "guess")
            times.append((time.perf_counter() - began) * 1e3)
    client.close()
    return took


def medians(tries: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="parley-guess.") as work, Policy(f"unix:{work}/policy.sock") as policy:
        policy.on.BeginAuth = begin(PASSWORD)
        policy.on.ValidatePassword = check
        daemon = Daemon(["--listen=127.0.0.1:0", f"--host-key={HOST_KEY}", f"--policy={policy.target}", *OPEN])
        try:
            port = daemon.wait_ready().port
            shares = [range(first, min(first + NAMES, tries)) for first in range(0, tries, NAMES)]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                parts = list(pool.map(lambda numbers: attack(port, numbers), shares))
        finally:
            daemon.kill()
    return {kind: median([each for part in parts for each in part[kind]]) for kind in ("known", "unknown")}


if __name__ == "__main__":
    print(json.dumps(medians(int(TRIES))))
