"""Answers whose way is wrong: HTTP/2 frames, headers, trailers, encodings and statuses that no good policy sends, or not in time."""

from __future__ import annotations

import gzip
import zlib
from typing import Any, Callable

from rawpolicy import END_HEADERS, HEADERS, Call, frame, grpc_message, header_block

from .faults import NO_STATUSES, REASON, STATUSES, Fault, Spoil
from .messages import REPORTS

def frames(name: str, reason: str, **how: Any) -> Callable[[Spoil], Spoil]:
    def keep(spoil: Spoil) -> Spoil:
        FRAMES.append(Fault(name, spoil, reason=reason, **how))
        return spoil

    return keep


FRAMES: list[Fault] = []


@frames("trailers-only-ok", "status OK without an answer|INTERNAL|UNKNOWN")
async def _(call: Call, _yes: bytes) -> None:
    call.trailers_only("0")


@frames("trailers-after-headers-ok", "status OK without an answer|INTERNAL|UNKNOWN")
async def _(call: Call, _yes: bytes) -> None:
    call.headers()
    call.trailers()


@frames("no-trailers", REASON)
async def _(call: Call, yes: bytes) -> None:
    call.headers()
    await call.message(yes, end=True)


@frames("no-status-in-trailers", REASON)
async def _(call: Call, yes: bytes) -> None:
    call.headers()
    await call.message(yes)
    call.trailers(None, ("x-nothing", "1"))


@frames("headers-only", REASON)
async def _(call: Call, _yes: bytes) -> None:
    call.headers(end=True)


@frames("no-headers", REASON)
async def _(call: Call, yes: bytes) -> None:
    await call.message(yes, end=True)


@frames("no-http-status", REASON)
async def _(call: Call, yes: bytes) -> None:
    block = header_block([("content-type", "application/grpc")])
    call.raw(frame(HEADERS, END_HEADERS, call.stream, block))
    await call.message(yes, end=True)


def _reset(code: int) -> None:
    @frames(f"reset-{code}", REASON)
    async def _(call: Call, _yes: bytes) -> None:
        call.reset(code)

    @frames(f"reset-{code}-after-answer", REASON)
    async def _(call: Call, yes: bytes) -> None:
        call.headers()
        await call.message(yes)
        call.reset(code)


for _code in (0, 2, 7, 8, 11, 13, 0xFFFFFFFF):
    _reset(_code)


@frames("message-shorter-than-it-says", REASON)
async def _(call: Call, yes: bytes) -> None:
    call.headers()
    await call.message(yes, length=len(yes) + 10)
    call.trailers()


@frames("message-of-4-gib-it-says", REASON)
async def _(call: Call, yes: bytes) -> None:
    call.headers()
    await call.message(yes, length=0xFFFFFFFF)
    call.trailers()


@frames("cut-in-the-prefix", REASON)
async def _(call: Call, yes: bytes) -> None:
    call.headers()
    await call.data(grpc_message(yes)[:3])
    call.trailers()


@frames("more-than-it-says", REASON + "|malformed", outcome="unavailable|expired", slow=True)
async def _(call: Call, yes: bytes) -> None:
    call.headers()
    await call.message(yes)
    await call.data(b"\0\0")
    call.trailers()


@frames("second-answer", REASON + "|malformed", outcome="unavailable|expired", slow=True)
async def _(call: Call, yes: bytes) -> None:
    call.headers()
    await call.message(yes)
    await call.message(b"")
    call.trailers()


@frames("compressed-flag-on-plain-bytes", "", outcome="answered", allowed=True)
async def _(call: Call, yes: bytes) -> None:
    """gRPC's core hides a flag that no grpc-encoding explains, and takes the bytes as they are: as they are, they say yes."""
    call.headers()
    await call.message(yes, 1)
    call.trailers()


@frames("compressed-without-encoding", "malformed")
async def _(call: Call, yes: bytes) -> None:
    call.headers()
    await call.message(gzip.compress(yes), 1)
    call.trailers()


def _flag(flag: int) -> None:
    @frames(f"message-flag-{flag}", REASON + "|compressed")
    async def _(call: Call, yes: bytes) -> None:
        call.headers()
        await call.message(yes, flag)
        call.trailers()


for _value in (2, 128, 255):
    _flag(_value)


@frames("compressed", "Compression algorithm|compressed")
async def _(call: Call, yes: bytes) -> None:
    call.headers(("grpc-encoding", "gzip"))
    await call.message(gzip.compress(yes), 1)
    call.trailers()


@frames("unknown-encoding", REASON + "|malformed")
async def _(call: Call, yes: bytes) -> None:
    call.headers(("grpc-encoding", "xyzzy"))
    await call.message(gzip.compress(yes), 1)
    call.trailers()


@frames("deflated", "Compression algorithm|compressed")
async def _(call: Call, yes: bytes) -> None:
    call.headers(("grpc-encoding", "deflate"))
    await call.message(zlib.compress(yes), 1)
    call.trailers()


@frames("not-grpc", REASON)
async def _(call: Call, yes: bytes) -> None:
    call.headers(status="200", kind="text/html")
    await call.data(b"<html>" + yes, end=True)


def _http(status: str) -> None:
    @frames(f"http-{status}", REASON)
    async def _(call: Call, yes: bytes) -> None:
        call.headers(status=status)
        await call.message(yes, end=True)


for _status in ("204", "301", "400", "401", "404", "429", "500", "502", "503"):
    _http(_status)


# gRPC's core ends the whole link over these, and with it what else is asked at that moment: of reports it says nothing.
@frames("huge-trailers", "metadata size exceeds limit", without=REPORTS)
async def _(call: Call, yes: bytes) -> None:
    call.headers()
    await call.message(yes)
    call.trailers("0", ("x-huge", "x" * 20000))


@frames("huge-headers", "metadata size exceeds limit", without=REPORTS)
async def _(call: Call, yes: bytes) -> None:
    call.headers(("x-huge", "x" * 20000))
    await call.message(yes)
    call.trailers()


@frames("words-that-forge-a-log-line", "PERMISSION_DENIED")
async def _(call: Call, yes: bytes) -> None:
    call.trailers_only("7", ("grpc-message", "no%0a00000000000000000000000000000000 event=login user=root%00%1b[2J"))


@frames("many-words", "PERMISSION_DENIED")
async def _(call: Call, yes: bytes) -> None:
    call.trailers_only("7", ("grpc-message", "x" * 8000))


@frames("never", "DEADLINE_EXCEEDED", outcome="expired", slow=True)
async def _(call: Call, _yes: bytes) -> None:
    await call.gone.wait()


@frames("after-the-deadline", "DEADLINE_EXCEEDED", outcome="expired", slow=True)
async def _(call: Call, yes: bytes) -> None:
    """Sent on a stream that the daemon has given up: it must be nobody's answer."""
    await call.gone.wait()
    call.headers()
    call.raw(frame(0, 0, call.stream, grpc_message(yes)))
    call.trailers()


@frames("status-after-the-deadline", "DEADLINE_EXCEEDED", outcome="expired", slow=True)
async def _(call: Call, yes: bytes) -> None:
    """The answer itself comes in time: without its status it is none."""
    call.headers()
    await call.message(yes)
    await call.gone.wait()
    call.trailers()


@frames("byte-by-byte", "", outcome="answered", allowed=True)
async def _(call: Call, yes: bytes) -> None:
    call.headers()
    for byte in grpc_message(yes):
        await call.data(bytes([byte]))
    call.trailers()


def _status(text: str, reason: str, outcome: str = "unavailable") -> None:
    @frames(f"status-{text!r}", reason, outcome=outcome)
    async def _(call: Call, _yes: bytes) -> None:
        call.trailers_only(text, ("grpc-message", "on purpose"))

    @frames(f"status-{text!r}-after-answer", reason, outcome=outcome)
    async def _(call: Call, yes: bytes) -> None:
        call.headers()
        await call.message(yes)
        call.trailers(text, ("grpc-message", "on purpose"))


for _number, _name in STATUSES.items():
    _status(str(_number), _name)
_status("4", "DEADLINE_EXCEEDED", "expired")
for _text in NO_STATUSES:
    _status(_text, REASON)


@frames("two-statuses", REASON)
async def _(call: Call, yes: bytes) -> None:
    call.headers()
    await call.message(yes)
    call.trailers("0", ("grpc-status", "13"))


@frames("two-statuses-ok-last", "", outcome="answered", allowed=True)
async def _(call: Call, yes: bytes) -> None:
    """gRPC's core lets the last one count."""
    call.headers()
    await call.message(yes)
    call.trailers("13", ("grpc-status", "0"))
