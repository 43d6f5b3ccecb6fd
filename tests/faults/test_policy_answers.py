"""No wrong answer is a yes: one table, every handler that is asked × everything that can be wrong with an answer.

Each case is a client of its own, from an address of its own, by which the policy knows whose answer to spoil. All share one
daemon, which must refuse, say why in its log, count it, and answer the next case as if nothing had been.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterator

import pytest

from faultkit.faults import Fault, Spoil, fits
from faultkit.frames import FRAMES
from faultkit.handlers import HANDLERS, Handler
from faultkit.messages import MESSAGES
from faultkit.table import Table, check, opened_table
from harness.keys import Key
from rawpolicy import Call


def cases() -> list[Any]:
    return [
        pytest.param(handler, fault, id=f"{handler.name}-{fault.name}")
        for handler, fault in itertools.product(HANDLERS, MESSAGES + FRAMES)
        if fits(handler, fault) and not fault.slow
    ]


@pytest.mark.parametrize(("handler", "fault"), cases())
def test_answer(table: Table, handler: Handler, fault: Fault) -> None:
    check(table, handler, fault)


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in MESSAGES + FRAMES if fault.slow])
def test_answer_that_waits_for_the_deadline(hasty: Table, fault: Fault) -> None:
    """All handlers at once, since each takes the deadline's seconds."""
    handlers = [handler for handler in HANDLERS if fits(handler, fault)]
    with ThreadPoolExecutor(len(handlers)) as pool:
        list(pool.map(lambda handler: check(hasty, handler, fault), handlers))


# ---- UNIMPLEMENTED, with and without words, is the one status that is no fault: unless the handler is required


async def unimplemented(call: Call, _yes: bytes) -> None:
    call.trailers_only("12", ("grpc-message", "Method not found!"))


async def unimplemented_after_answer(call: Call, yes: bytes) -> None:
    call.headers()
    await call.message(yes)
    call.trailers("12")


@pytest.fixture(scope="module")
def strict(host_key: Key) -> Iterator[Table]:
    """Every handler is required."""
    flags = itertools.chain.from_iterable(("--required-handler", handler.rpc) for handler in HANDLERS)
    with opened_table(host_key, *flags) as table:
        yield table


@pytest.mark.parametrize("spoil", [unimplemented, unimplemented_after_answer])
@pytest.mark.parametrize("handler", [pytest.param(h, id=h.name) for h in HANDLERS])
def test_absence_of_a_required_handler_refuses(strict: Table, handler: Handler, spoil: Spoil) -> None:
    strict.forget_absence()
    check(strict, handler, Fault("required", spoil, reason="required handler is absent"))


@pytest.mark.parametrize("spoil", [unimplemented, unimplemented_after_answer])
@pytest.mark.parametrize("handler", [pytest.param(h, id=h.name) for h in HANDLERS])
def test_absence_means_the_default(table: Table, handler: Handler, spoil: Spoil) -> None:
    """Even beside an answer that says otherwise."""
    table.forget_absence()
    check(table, handler, Fault("absent", spoil, outcome="absent", reason="UNIMPLEMENTED|remembered", allowed=handler.absent_allows))
    table.forget_absence()
