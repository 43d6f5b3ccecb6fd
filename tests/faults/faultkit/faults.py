"""What can be wrong with an answer: one column of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Awaitable, Callable

from harness.contract import pb
from rawpolicy import Call

from .handlers import Handler

REASON = "[A-Z_]+|status"
STATUSES = {
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}
NO_STATUSES = ["17", "99", "-1", "4294967296", "18446744073709551616", "0x0", "abc", "", "zero"]

Spoil = Callable[[Call, bytes], Awaitable[None]]
Build = Callable[[Handler], "bytes | None"]


@dataclass(frozen=True)
class Fault:
    """One column: what the policy sends, and how that decision must end. `reason` is a regular expression."""

    name: str
    spoil: Spoil | None = None
    build: Build | None = None
    reason: str = ""
    outcome: str = "unavailable"
    allowed: bool = False  # a control: not wrong, and so it counts
    without: tuple[str, ...] = ()  # handlers for which it is not wrong, or has no meaning
    slow: bool = False


def message(name: str, build: Build, reason: str, **how: Any) -> Fault:
    return Fault(name, build=build, reason=reason, **how)


def fits(handler: Handler, fault: Fault) -> bool:
    return handler.name not in fault.without and not (fault.build and fault.build(handler) is None)


# ---- protobuf by hand


def varint(value: int) -> bytes:
    out = b""
    while value >= 128:
        out, value = out + bytes([value % 128 + 128]), value // 128
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def chunk(field: int, payload: bytes = b"") -> bytes:
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def common(**fields: Any) -> bytes:
    """Field 1 of every answer; what follows is what the answer says."""
    return chunk(1, pb.Common(**fields).SerializeToString())


def banner(text: bytes) -> bytes:
    """Common.banner.text with bytes that no library would pack."""
    return chunk(1, chunk(3, chunk(1, text)))


def pad(h: Handler, size: int) -> bytes:
    """A good answer that is too long, by a text that means nothing."""
    return h.yes + common(log={"pad": "x" * size})
