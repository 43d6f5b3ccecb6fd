"""No wrong answer is a yes: one table, every handler that is asked × everything that can be wrong with an answer.

Each case is a client of its own, from an address of its own, by which the policy knows whose answer to spoil. All share one
daemon, which must refuse, say why in its log, count it, and answer the next case as if nothing had been.
"""

from __future__ import annotations

import gzip
import itertools
import random
import re
import select
import socket
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Awaitable, Callable, Iterator

import pytest

from decisionlog import DecisionLog, check_counts
from harness import wire
from harness.contract import output_class, pb
from harness.daemon import Daemon
from harness.keys import Key
from harness.rawclient import RawClient, UserKey
from harness.rawssh import Closed, Disconnected
from harness.wait import PATIENCE_S, poll
from harness.wire import boolean, string, u32
from rawpolicy import END_HEADERS, END_STREAM, HEADERS, Call, RawPolicy, frame, grpc_message, header_block

DEADLINE_MS = 1000
KEY = UserKey()
SECRET = "wonderland"

ALLOW = pb.Allow()
STREAM = pb.SessionAnswer(stream=pb.StreamEndpoint())
NAMED_METHODS = pb.Methods(methods=[pb.AUTH_METHOD_PUBLICKEY, pb.AUTH_METHOD_PASSWORD])
ASK_ABOUT_METHODS = pb.BeginAuthAnswer(requirement=pb.REQUIREMENT_REQUIRED).SerializeToString()
NAMES_METHODS = pb.BeginAuthAnswer(requirement=pb.REQUIREMENT_REQUIRED, methods=NAMED_METHODS).SerializeToString()
NOT_REQUIRED = pb.BeginAuthAnswer(requirement=pb.REQUIREMENT_NOT_REQUIRED).SerializeToString()

OPEN = pb.OpenAnswer(stream=pb.StreamEndpoint())
MANAGED = pb.ListenAnswer(managed=pb.ManagedListener(port=8080))
ASKED_EACH = pb.ListenAnswer(listen=pb.ListenEndpoint(ask_each=True)).SerializeToString()
CHALLENGE = pb.KbdintAnswer(challenge=pb.Challenge(prompts=[pb.Prompt(text="Code: ")])).SerializeToString()
NAMES_KBDINT = pb.BeginAuthAnswer(methods=pb.Methods(methods=[pb.AUTH_METHOD_KEYBOARD_INTERACTIVE])).SerializeToString()

# What lets everybody in and starts every program; a case spoils one answer of these.
YES: dict[str, Any] = {
    "ConnectionMade": pb.ConnectionMadeAnswer(allow=ALLOW),
    "ConnectionLost": pb.Ack(),
    "DebugMsgReceived": pb.Ack(),
    "BeginAuth": pb.BeginAuthAnswer.FromString(NOT_REQUIRED),
    "AuthCompleted": pb.AuthCompletedAnswer(allow=ALLOW),
    "HostBasedAuthSupported": pb.SupportedAnswer(support=pb.SUPPORT_NO),
    "KbdintAuthSupported": pb.SupportedAnswer(support=pb.SUPPORT_YES),
    "PublicKeyAuthSupported": pb.SupportedAnswer(support=pb.SUPPORT_YES),
    "PasswordAuthSupported": pb.SupportedAnswer(support=pb.SUPPORT_YES),
    "ValidatePublicKey": pb.AuthAnswer(allow=ALLOW),
    "ValidatePassword": pb.PasswordAnswer(allow=ALLOW),
    "GetKbdintChallenge": pb.KbdintAnswer(allow=ALLOW),
    "ValidateKbdintResponse": pb.KbdintAnswer(allow=ALLOW),
    "SessionRequested": STREAM,
    "ConnectionRequested": OPEN,
    "UnixConnectionRequested": OPEN,
    "TunRequested": OPEN,
    "TapRequested": OPEN,
    "ServerRequested": MANAGED,
    "UnixServerRequested": MANAGED,
    "ForwardAccepted": pb.ForwardAcceptedAnswer(accept=pb.Accept()),
    "X11Requested": pb.GrantAnswer(allow=ALLOW),
    "AgentRequested": pb.GrantAnswer(allow=ALLOW),
    "PtyRequested": pb.GrantAnswer(allow=ALLOW),
    "EnvRequested": pb.GrantAnswer(allow=ALLOW),
    "ShellRequested": STREAM,
    "ExecRequested": STREAM,
    "SubsystemRequested": STREAM,
}


# ---- handlers: how a client gets there, and whether it got what it wanted


def got(client: RawClient, *types: int) -> bool:
    """True if the next message is the yes among these, which comes first; a disconnect is a no."""
    try:
        return client.expect(*types).type == types[0]
    except Disconnected as end:
        assert end.reason, "a disconnect that tells the client nothing"
        return False


def connected(client: RawClient) -> bool:
    client.send(bytes([wire.SERVICE_REQUEST]) + string("ssh-userauth"))
    return got(client, wire.SERVICE_ACCEPT)


def begun(client: RawClient) -> bool:
    client.service()
    client.send(client.auth_message("alice", "none"))
    return got(client, wire.USERAUTH_SUCCESS, wire.USERAUTH_FAILURE)


def tried(client: RawClient, message: bytes) -> bool:
    client.service()
    client.send(message)
    return got(client, wire.USERAUTH_SUCCESS, wire.USERAUTH_FAILURE, wire.PASSWD_CHANGEREQ)


def by_password(client: RawClient) -> bool:
    return tried(client, client.password_message("alice", SECRET))


def by_key(client: RawClient) -> bool:
    return tried(client, client.key_message("alice", KEY))


def probed(client: RawClient) -> bool:
    client.service()
    client.send(client.auth_message("alice", "publickey", boolean(False) + string(KEY.algorithm) + string(KEY.blob)))
    return got(client, wire.PK_OK, wire.USERAUTH_FAILURE)


def completed(client: RawClient) -> bool:
    """The client hears SUCCESS before AuthCompleted is asked; only what follows shows the answer."""
    client.login()
    client.send(client.open_message())
    return got(client, wire.OPEN_CONFIRMATION)


def opened(client: RawClient) -> bool:
    client.login()
    client.send(client.open_message())
    return got(client, wire.OPEN_CONFIRMATION, wire.OPEN_FAILURE)


def by_kbdint(client: RawClient) -> bool:
    return tried(client, client.auth_message("alice", "keyboard-interactive", string("") + string("")))


def responded(client: RawClient) -> bool:
    client.service()
    client.send(client.auth_message("alice", "keyboard-interactive", string("") + string("")))
    client.expect(wire.PASSWD_CHANGEREQ)  # INFO_REQUEST has the same number
    client.send(bytes([61]) + u32(1) + string(SECRET))
    return got(client, wire.USERAUTH_SUCCESS, wire.USERAUTH_FAILURE, wire.PASSWD_CHANGEREQ)


def channel(kind: str, rest: bytes) -> Callable[[RawClient], bool]:
    def drive(client: RawClient) -> bool:
        client.login().send(client.open_message(kind, rest=rest))
        return got(client, wire.OPEN_CONFIRMATION, wire.OPEN_FAILURE)

    return drive


def listening(name: str, rest: bytes) -> Callable[[RawClient], bool]:
    return lambda client: client.login().global_request(name, rest)


def accepted(client: RawClient) -> bool:
    """Somebody connects to what we listen on: a channel to the client, or the end."""
    client.login().send(bytes([wire.GLOBAL_REQUEST]) + string("tcpip-forward") + boolean(True) + string("") + u32(0))
    port = client.expect(wire.REQUEST_SUCCESS).u32()
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as peer:
        ready, _, _ = select.select([peer, client.socket], [], [], PATIENCE_S)
        if peer in ready:
            assert peer.recv(1) == b""
            return False
        return client.expect(wire.CHANNEL_OPEN).string() == b"forwarded-tcpip"


def requested(name: str, rest: bytes = b"") -> Callable[[RawClient], bool]:
    return lambda client: client.request(client.login().open(), name, rest)


def debugged(client: RawClient) -> bool:
    """A report's answer changes nothing: the login goes on."""
    client.send(bytes([wire.DEBUG]) + boolean(True) + string("hello") + string(""))
    return begun(client)


def lost(client: RawClient) -> bool:
    yes = begun(client)
    client.disconnect()
    return yes


@dataclass(frozen=True)
class Handler:
    """One row of the table."""

    name: str
    rpc: str
    drive: Callable[[RawClient], bool]
    begin: bytes = NOT_REQUIRED  # BeginAuth that leads there
    on_the_way: tuple[str, bytes] = ("", b"")  # another handler's answer that leads there
    absent_allows: bool = False
    report: bool = False
    after_login: bool = False

    @property
    def yes(self) -> bytes:
        return self.begin if self.rpc == "BeginAuth" else YES[self.rpc].SerializeToString()

    @property
    def output_class(self) -> Any:
        return output_class(self.rpc)

    @property
    def output(self) -> Any:
        return output_class(self.rpc).DESCRIPTOR

    def field(self, name: str) -> int:
        return self.output.fields_by_name[name].number

    @property
    def yes_field(self) -> int:
        """The member that says yes."""
        return next(self.field(name) for name in ("allow", "managed", "accept", "stream", "support", "requirement") if name in self.output.fields_by_name)

    @property
    def has_oneof(self) -> bool:
        return bool(self.output.oneofs)


TCP = string("host") + u32(80) + string("") + u32(0)
X11 = boolean(False) + string("MIT-MAGIC-COOKIE-1") + string("00" * 16) + u32(0)
PTY = string("xterm") + u32(80) + u32(24) + u32(0) + u32(0) + string("")

HANDLERS = [
    Handler("ConnectionMade", "ConnectionMade", connected, absent_allows=True),
    Handler("BeginAuth", "BeginAuth", begun),
    Handler("AuthCompleted", "AuthCompleted", completed, absent_allows=True),
    Handler("PublicKeyAuthSupported", "PublicKeyAuthSupported", by_key, ASK_ABOUT_METHODS),
    Handler("PasswordAuthSupported", "PasswordAuthSupported", by_password, ASK_ABOUT_METHODS),
    Handler("ValidatePublicKey-probe", "ValidatePublicKey", probed, NAMES_METHODS),
    Handler("ValidatePublicKey-proven", "ValidatePublicKey", by_key, NAMES_METHODS),
    Handler("ValidatePassword", "ValidatePassword", by_password, NAMES_METHODS),
    Handler("KbdintAuthSupported", "KbdintAuthSupported", by_kbdint, ASK_ABOUT_METHODS),
    Handler("GetKbdintChallenge", "GetKbdintChallenge", by_kbdint, NAMES_KBDINT),
    Handler("ValidateKbdintResponse", "ValidateKbdintResponse", responded, NAMES_KBDINT, ("GetKbdintChallenge", CHALLENGE)),
    Handler("SessionRequested", "SessionRequested", opened, after_login=True),
    Handler("ConnectionRequested", "ConnectionRequested", channel("direct-tcpip", TCP), after_login=True),
    Handler("UnixConnectionRequested", "UnixConnectionRequested", channel("direct-streamlocal@openssh.com", string("/x") + string("") + u32(0)), after_login=True),
    Handler("TunRequested", "TunRequested", channel("tun@openssh.com", u32(1) + u32(7)), after_login=True),
    Handler("TapRequested", "TapRequested", channel("tun@openssh.com", u32(2) + u32(7)), after_login=True),
    Handler("ServerRequested", "ServerRequested", listening("tcpip-forward", string("") + u32(80)), after_login=True),
    Handler("UnixServerRequested", "UnixServerRequested", listening("streamlocal-forward@openssh.com", string("/x")), after_login=True),
    Handler("ForwardAccepted", "ForwardAccepted", accepted, on_the_way=("ServerRequested", ASKED_EACH), after_login=True),
    Handler("X11Requested", "X11Requested", requested("x11-req", X11), after_login=True),
    Handler("AgentRequested", "AgentRequested", requested("auth-agent-req@openssh.com"), after_login=True),
    Handler("PtyRequested", "PtyRequested", requested("pty-req", PTY), absent_allows=True, after_login=True),
    Handler("EnvRequested", "EnvRequested", requested("env", string("LANG") + string("C")), absent_allows=True, after_login=True),
    Handler("ShellRequested", "ShellRequested", requested("shell"), absent_allows=True, after_login=True),
    Handler("ExecRequested", "ExecRequested", requested("exec", string("true")), absent_allows=True, after_login=True),
    Handler("SubsystemRequested", "SubsystemRequested", requested("subsystem", string("sftp")), absent_allows=True, after_login=True),
    Handler("DebugMsgReceived", "DebugMsgReceived", debugged, report=True),
    Handler("ConnectionLost", "ConnectionLost", lost, report=True),
]


# ---- faults


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
SUPPORTED = ("PublicKeyAuthSupported", "PasswordAuthSupported", "KbdintAuthSupported")
REPORTS = ("DebugMsgReceived", "ConnectionLost")
PLAIN = (*SUPPORTED, "BeginAuth", *REPORTS)

MESSAGES = [
    message("good", lambda h: h.yes, "", outcome="answered", allowed=True),
    message("unknown-in-common", late_contract, "", outcome="answered", allowed=True),
    message("empty", lambda h: b"", NONE_SET, without=PLAIN),
    message("empty-means-no", lambda h: b"" if h.name in PLAIN[:4] else None, "", outcome="answered"),
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


def frames(name: str, reason: str, **how: Any) -> Callable[[Spoil], Spoil]:
    def keep(spoil: Spoil) -> Spoil:
        FRAMES.append(Fault(name, spoil, reason=reason, **how))
        return spoil

    return keep


FRAMES: list[Fault] = []
REASON = "[A-Z_]+|status"


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


# ---- the policy and the daemon of the whole table


async def wait_for_close(call: Call) -> None:
    call.headers()
    await call.finished.wait()


class Table:
    """One policy and one daemon; cases by the client's address."""

    def __init__(self, work: Path, host_key: Key, *flags: str) -> None:
        self.cases: dict[str, tuple[Handler, Fault]] = {}
        self.streams: dict[str, Callable[[Call], Awaitable[None]]] = {}
        self.addresses = (f"127.{a}.{b}.{c}" for a in itertools.count(1) for b in range(250) for c in range(1, 250))
        self.policy = RawPolicy(f"unix:{work}/raw.sock", self.answer).start()
        deadline = f"{DEADLINE_MS}ms"
        self.daemon = Daemon(
            [
                *("--listen", "127.0.0.1:0", "--host-key", str(host_key.path), "--policy", self.policy.target),
                *("--policy-auth-deadline", deadline, "--policy-deadline", deadline, "--policy-stream-start", deadline),
                *flags,
            ],
            cwd=work,
        ).wait_ready()
        self.log = DecisionLog(self.daemon)

    async def answer(self, call: Call) -> None:
        if call.name == "Channel":
            await self.streams.get(call.request.opened.context.peer.ip, wait_for_close)(call)
            return
        yes = YES[call.name].SerializeToString()
        case = self.cases.get(call.request.context.peer.ip)
        if case is not None:
            handler, fault = case
            if call.name == "BeginAuth":
                yes = handler.begin
            if call.name == handler.on_the_way[0]:
                yes = handler.on_the_way[1]
            if call.name == handler.rpc and fault.spoil:
                await fault.spoil(call, handler.yes)
                return
            if call.name == handler.rpc and fault.build:
                yes = fault.build(handler)
        await call.answer(yes)

    def client(self, handler: Handler, fault: Fault) -> RawClient:
        source = next(self.addresses)
        self.cases[source] = (handler, fault)
        return RawClient(self.daemon.port, source=source)

    def forget_absence(self) -> None:
        """A new link: what the policy behind the old one lacked is asked for again."""
        self.policy.drop()
        poll(self.answers, "the link is up again")

    def answers(self) -> bool:
        client = RawClient(self.daemon.port, source=next(self.addresses))
        try:
            return connected(client)
        except (Closed, OSError):
            return False
        finally:
            client.close()

    def connection(self, source: str) -> str:
        """Its id, from what was asked about it."""
        return self.policy.wait_for("ConnectionMade", lambda r: r.context.peer.ip == source).context.connection_id

    def close(self) -> None:
        try:
            check_counts(self.daemon, self.log)
        finally:
            self.daemon.kill()
            self.policy.stop()


@pytest.fixture(scope="module")
def table(host_key: Key) -> Iterator[Table]:
    with tempfile.TemporaryDirectory(prefix="parley-table-") as work:
        table = Table(Path(work), host_key)
        yield table
        table.close()


def fits(handler: Handler, fault: Fault) -> bool:
    return handler.name not in fault.without and not (fault.build and fault.build(handler) is None)


def cases() -> list[Any]:
    return [
        pytest.param(handler, fault, id=f"{handler.name}-{fault.name}")
        for handler, fault in itertools.product(HANDLERS, MESSAGES + FRAMES)
        if fits(handler, fault) and not fault.slow
    ]


def check(table: Table, handler: Handler, fault: Fault) -> None:
    """One case: what the client got, what the log says of it."""
    client = table.client(handler, fault)
    try:
        allowed = handler.drive(client)
    finally:
        client.close()
    connection = table.connection(client.socket_name[0])
    decisions = table.log.wait(connection, "decision", rpc=handler.rpc)
    said = "\n".join(table.log.lines(connection))
    assert allowed == (fault.allowed or handler.report), said
    for decision in decisions:
        assert re.fullmatch(fault.outcome, decision["outcome"]), said
        assert re.search(fault.reason, decision.get("reason", "")), said
        assert len(decision.get("reason", "")) < 600, said
    if not allowed:
        assert not table.log.events(connection, "program", outcome="accepted"), said
        assert handler.after_login or not table.log.events(connection, "login"), said




@pytest.mark.parametrize(("handler", "fault"), cases())
def test_answer(table: Table, handler: Handler, fault: Fault) -> None:
    check(table, handler, fault)


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in MESSAGES + FRAMES if fault.slow])
def test_answer_that_waits_for_the_deadline(table: Table, fault: Fault) -> None:
    """All handlers at once, since each takes the deadline's second."""
    handlers = [handler for handler in HANDLERS if fits(handler, fault)]
    with ThreadPoolExecutor(len(handlers)) as pool:
        list(pool.map(lambda handler: check(table, handler, fault), handlers))


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
    with tempfile.TemporaryDirectory(prefix="parley-strict-") as work:
        flags = itertools.chain.from_iterable(("--required-handler", handler.rpc) for handler in HANDLERS)
        table = Table(Path(work), host_key, *flags)
        yield table
        table.close()


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


# ---- the stream of a channel


@dataclass(frozen=True)
class StreamFault:
    """What the policy sends after a good "hello", and what the log says of the channel's end."""

    name: str
    spoil: Callable[[Call], Awaitable[None]]
    reason: str


STREAM_FAULTS: list[StreamFault] = []


def on_stream(name: str, reason: str) -> Callable[[Callable[[Call], Awaitable[None]]], None]:
    return lambda spoil: STREAM_FAULTS.append(StreamFault(name, spoil, reason))


def action(name: str, build: Callable[[], bytes], reason: str) -> None:
    async def spoil(call: Call) -> None:
        await call.message(build())
        await call.gone.wait()

    STREAM_FAULTS.append(StreamFault(name, spoil, f"malformed message: .*({reason})|{reason}"))


def data_action(payload: bytes) -> bytes:
    return pb.ChannelAction(data=pb.ChannelData(payload=payload)).SerializeToString()


BAD = data_action(b"BAD")
EXIT = pb.ChannelAction(exit_status=pb.ExitStatus(status=0)).SerializeToString()

action("empty", lambda: b"", NONE_SET)
action("two-members", lambda: BAD + EXIT, "more than one of")
action("later-member", lambda: chunk(15, b"x"), "unknown field 15")
action("unknown-field", lambda: BAD + number(200, 1), "unknown field 200")
action("unknown-field-inside", lambda: chunk(1, chunk(1, b"BAD") + number(9, 1)), "unknown field 9")
action("duplicate", lambda: BAD + BAD, "comes twice")
action("duplicate-inside", lambda: chunk(1, chunk(1, b"BAD") + chunk(1, b"BAD")), "comes twice")
action("nul", lambda: chunk(4, chunk(1, b"TE\0RM")), "NUL")
action("not-utf8", lambda: chunk(4, chunk(3, b"\xff")), "not UTF-8")
action("truncated", lambda: BAD[:-1], "malformed")
action("noise", lambda: random.Random(7).randbytes(300), "malformed|unknown field|wire type")
action("number-out-of-range", lambda: chunk(3, number(1, 1 << 40)), "out of range")
action("wrong-wire-type", lambda: number(1, 1), "wrong wire type")
action("unknown-stderr", lambda: chunk(1, chunk(1, b"BAD") + number(2, 1 << 33)), "out of range")
action("oversize", lambda: data_action(b"BAD" + b"x" * (1050 << 10)), "at most|larger than max")
action("oversize-for-grpc", lambda: data_action(b"BAD" + b"x" * (1200 << 10)), "RESOURCE_EXHAUSTED")


@on_stream("end-without-exit", "the endpoint ended")
async def _(call: Call) -> None:
    call.trailers()


@on_stream("end-without-trailers", "UNKNOWN")
async def _(call: Call) -> None:
    await call.message(data_action(b""), end=True)


@on_stream("exit-then-error", "INTERNAL")
async def _(call: Call) -> None:
    call.trailers("13")


@on_stream("compressed", "malformed")
async def _(call: Call) -> None:
    await call.message(gzip.compress(BAD), 1)
    await call.gone.wait()


@on_stream("message-flag-255", "the endpoint ended|malformed")
async def _(call: Call) -> None:
    await call.message(BAD, 255)
    call.trailers()


@on_stream("message-shorter-than-it-says", "the endpoint ended|malformed")
async def _(call: Call) -> None:
    await call.message(BAD, length=len(BAD) + 10)
    call.trailers()


def _stream_reset(code: int) -> None:
    @on_stream(f"reset-{code}", "RST_STREAM")
    async def _(call: Call) -> None:
        call.reset(code)


def _stream_status(status: str, reason: str) -> None:
    @on_stream(f"status-{status!r}", reason)
    async def _(call: Call) -> None:
        call.trailers(status, ("grpc-message", "on purpose"))


for _code in (0, 2, 8, 0xFFFFFFFF):
    _stream_reset(_code)
for _number, _name in {**STATUSES, 4: "DEADLINE_EXCEEDED", 12: "UNIMPLEMENTED"}.items():
    _stream_status(str(_number), _name)
for _text in NO_STATUSES:
    _stream_status(_text, REASON)


def ran(client: RawClient) -> tuple[bytes, list[bytes]]:
    """All data of a program until the channel closes, and the names of the requests that came with it."""
    number = client.login().open()
    assert client.request(number, "exec", string("x"))
    data, requests = b"", []
    while (message := client.expect(wire.CHANNEL_DATA, wire.CHANNEL_EOF, wire.CHANNEL_CLOSE, wire.CHANNEL_REQUEST)).type != wire.CHANNEL_CLOSE:
        message.u32()
        if message.type == wire.CHANNEL_DATA:
            data += message.string()
        elif message.type == wire.CHANNEL_REQUEST:
            requests.append(message.string())
    client.close_channel(number)
    return data, requests


EXEC = next(handler for handler in HANDLERS if handler.name == "ExecRequested")


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in STREAM_FAULTS])
def test_stream(table: Table, fault: StreamFault) -> None:
    """What was good is delivered, what is not is not; the client hears of no exit; the log says why; the connection lives."""

    async def spoil(call: Call) -> None:
        call.headers()
        await call.message(data_action(b"hello"))
        await fault.spoil(call)

    client = table.client(EXEC, Fault("stream"))
    table.streams[client.socket_name[0]] = spoil
    try:
        data, requests = ran(client)
        assert data == b"hello" and not requests, (data, requests)
        client.open(channel=1)
    finally:
        client.close()
    connection = table.connection(client.socket_name[0])
    closed = table.log.wait(connection, "channel_closed")[0]
    assert re.search(fault.reason, closed.get("why", "")), closed


@pytest.mark.parametrize("status", ["0", "14"])
def test_stream_that_is_not_accepted(table: Table, status: str) -> None:
    """Refused at once, before any message."""

    async def spoil(call: Call) -> None:
        call.trailers_only(status)

    client = table.client(EXEC, Fault("stream"))
    table.streams[client.socket_name[0]] = spoil
    try:
        assert ran(client) == (b"", [])
    finally:
        client.close()


def test_stream_that_hangs(table: Table) -> None:
    """No initial metadata by the deadline for streams to start."""

    async def spoil(call: Call) -> None:
        await call.gone.wait()

    client = table.client(EXEC, Fault("stream"))
    table.streams[client.socket_name[0]] = spoil
    try:
        assert ran(client) == (b"", [])
    finally:
        client.close()
    closed = table.log.wait(table.connection(client.socket_name[0]), "channel_closed")[0]
    assert "no initial metadata" in closed["why"]
