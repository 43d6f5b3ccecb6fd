"""The small form of soak.py: enough to see a leak of a kilobyte or a descriptor a login; the long form sees twenty bytes."""

from __future__ import annotations

from faultkit.books import sanitized
from soak import soak


def test_logins_and_sessions_leave_nothing() -> None:
    """The sanitizer build looks for leaks itself, when the daemon ends."""
    figures = soak(500, 200, 2)
    for part in figures:
        print(part)
        assert part.fds_after == part.fds_before, part
    for what in ("logins", "sessions"):
        growth = sum(part.growth_kib for part in figures if part.what == what)
        count = sum(part.count for part in figures if part.what == what)
        assert sanitized() or growth <= count + 512, f"{growth} KiB more after {count} {what}"
