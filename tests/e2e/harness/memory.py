"""What a core file of the daemon would hold."""

from __future__ import annotations

import re
from pathlib import Path


def memory_holds(pid: int, *secrets: bytes) -> list[str]:
    """Where in the daemon's writable memory one of these is, with what stands before it."""
    found: list[str] = []
    pattern = re.compile(b"|".join(map(re.escape, secrets)))
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, modes, *rest = line.split(maxsplit=5)
            if not modes.startswith("rw"):
                continue
            begins, ends = (int(address, 16) for address in span.split("-"))
            try:
                memory.seek(begins)
                data = memory.read(ends - begins)
            except OSError:  # reserved, not there
                continue
            found += [f"{begins + hit.start():x} {rest[3:]} {data[max(0, hit.start() - 64) : hit.end()]!r}" for hit in pattern.finditer(data)]
    return found
