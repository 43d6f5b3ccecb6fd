"""Answers whose message is wrong: not this question's, more than one, cut, too long, of a later contract."""

from __future__ import annotations

import random

from harness.contract import pb

from .faults import Build, Fault, banner, chunk, common, message, number, pad
from .handlers import ALLOW, Handler, STREAM

def other_handlers_yes(h: Handler) -> bytes | None:
    """A yes, but to another question."""
    wrong = {
        "ConnectionMadeAnswer": STREAM,
        "AuthCompletedAnswer": STREAM,
        "BeginAuthAnswer": pb.AuthAnswer(allow=ALLOW),
        "SupportedAnswer": pb.AuthAnswer(allow=ALLOW),
        "AuthAnswer": pb.PasswordAnswer(change_required=pb.PasswordChange(prompt="new?")),
        "PasswordAnswer": pb.SessionAnswer(upstream=pb.UpstreamEndpoint()),
        "GrantAnswer": pb.AuthAnswer(partial=pb.PartialSuccess(remaining=[pb.AUTH_METHOD_PASSWORD])),
        "SessionAnswer": pb.AuthAnswer(deny=pb.Deny(message="x")),  # as accept {1: "x"}
        "KbdintAnswer": pb.SessionAnswer(upstream=pb.UpstreamEndpoint()),
        "OpenAnswer": pb.SessionAnswer(recording=pb.RecordingOrder()),
        "ListenAnswer": pb.SessionAnswer(recording=pb.RecordingOrder()),
        "ForwardAcceptedAnswer": pb.SessionAnswer(recording=pb.RecordingOrder()),
        "Ack": pb.AuthAnswer(allow=ALLOW),
    }
    return wrong[h.output.name].SerializeToString()


def upstream_nobody_knows(h: Handler) -> bytes | None:
    """Without known_hosts nothing is trusted."""
    if h.output.name not in ("SessionAnswer", "OpenAnswer"):
        return None
    return h.output_class(upstream=pb.UpstreamEndpoint(hops=[pb.UpstreamHop(host="host", password="x")])).SerializeToString()


def two_members(h: Handler) -> bytes | None:
    no = next((name for name in ("refuse", "deny") if name in h.output.fields_by_name), "")
    return h.yes + chunk(h.field(no)) if h.has_oneof else None


def two_members_yes_last(h: Handler) -> bytes | None:
    no = next((name for name in ("refuse", "deny") if name in h.output.fields_by_name), "")
    return chunk(h.field(no)) + h.yes if h.has_oneof else None


def unknown_enum(value: int) -> Build:
    def build(h: Handler) -> bytes | None:
        if h.output.name in ("SupportedAnswer", "BeginAuthAnswer"):
            return number(h.yes_field, value)
        if h.output.name in ("ConnectionMadeAnswer", "AuthCompletedAnswer"):
            return h.yes + number(h.field("supervise_on_loss"), value)
        if h.output.name in ("AuthAnswer", "PasswordAnswer", "KbdintAnswer"):
            return chunk(h.field("partial"), number(1, value))
        return None

    return build


def nested_unknown(h: Handler) -> bytes | None:
    if not h.has_oneof:
        return None
    return chunk(h.yes_field, number(100, 1))


def duplicate(h: Handler) -> bytes | None:
    return None if h.report else h.yes + h.yes


def late_contract(h: Handler) -> bytes:
    """Common is where daemons take what they do not know."""
    return h.yes + chunk(1, chunk(200, b"new"))


def oversize(h: Handler) -> bytes:
    return pad(h, 1 << 20 | 1 << 16 if h.rpc == "BeginAuth" else 1 << 16)


NONE_SET = "none of .* is set"
SUPPORTED = ("PublicKeyAuthSupported", "PasswordAuthSupported", "KbdintAuthSupported", "HostBasedAuthSupported")
REPORTS = ("DebugMsgReceived", "ConnectionLost")
PLAIN = (*SUPPORTED, "BeginAuth", *REPORTS)

MESSAGES = [
    message("good", lambda h: h.yes, "", outcome="answered", allowed=True),
    message("unknown-in-common", late_contract, "", outcome="answered", allowed=True),
    message("empty", lambda h: b"", NONE_SET, without=PLAIN),
    message("empty-means-no", lambda h: b"" if h.name in (*SUPPORTED, "BeginAuth") else None, "", outcome="answered"),
    message("only-common", lambda h: common(log={"a": "b"}), NONE_SET, without=PLAIN),
    message("two-members", two_members, "more than one of"),
    message("two-members-yes-last", two_members_yes_last, "more than one of"),
    message("member-of-a-later-contract", lambda h: common(log={"a": "b"}) + chunk(15), "unknown field 15"),
    message("other-handlers-yes", other_handlers_yes, "wrong wire type|unknown field|none of"),
    message("upstream-nobody-knows", upstream_nobody_knows, "", outcome="answered"),
    message("unknown-enum", unknown_enum(99), "unknown value 99"),
    message("negative-enum", unknown_enum((1 << 64) - 1), "unknown value"),
    message("enum-as-of-32-bits", unknown_enum((1 << 32) + 1), "unknown value"),
    message("unknown-field", lambda h: h.yes + number(200, 1), "unknown field 200"),
    message("unknown-field-first", lambda h: number(536870911, 1) + h.yes, "unknown field 536870911"),
    message("unknown-field-inside", nested_unknown, "unknown field 100"),
    message("duplicate", duplicate, "comes twice"),
    message("duplicate-common", lambda h: common(log={"a": "b"}) + h.yes + common(log={"a": "b"}), "comes twice"),
    message("nul", lambda h: h.yes + banner(b"we\0lcome"), "not UTF-8, or with a NUL"),
    message("not-utf8", lambda h: h.yes + banner(b"\xff\xfe"), "not UTF-8, or with a NUL"),
    message("surrogate", lambda h: h.yes + banner(b"\xed\xa0\x80"), "not UTF-8, or with a NUL"),
    message("overlong-utf8", lambda h: h.yes + banner(b"\xc0\x80"), "not UTF-8, or with a NUL"),
    message("truncated", lambda h: (h.yes + common(log={"a": "b"}))[:-1], "malformed"),
    message("length-beyond-the-end", lambda h: h.yes + b"\x0a\xff\xff\xff\xff\x0f", "malformed"),
    message("endless-varint", lambda h: h.yes + b"\xff" * 11, "malformed"),
    message("group", lambda h: h.yes + b"\x1b\x1c", "malformed|wire type"),
    message("field-0", lambda h: h.yes + b"\0\1", "malformed|unknown field 0"),
    message("wire-type-7", lambda h: h.yes + b"\x0f", "malformed|wire type"),
    message("wrong-wire-type", lambda h: h.yes + number(1, 1), "wrong wire type"),
    message("noise", lambda h: random.Random(h.name).randbytes(200), "malformed|unknown field|wire type|comes twice"),
    message("large-state", lambda h: h.yes + common(state=b"x" * 4097), "longer than 4096"),
    message("large-banner", lambda h: h.yes + banner(b"x" * 8193), "longer than 8192"),
    message("oversize", oversize, "at most [0-9]+ are taken"),
    message("oversize-for-grpc", lambda h: pad(h, 1200 << 10), "RESOURCE_EXHAUSTED"),
]
