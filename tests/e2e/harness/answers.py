"""Short names for answers, and whole policies that most tests start from."""

from __future__ import annotations

import os
import pwd
from typing import Any, Awaitable, Callable

from .contract import pb
from .policy import Policy
from .stream import ChannelStream

PUBLICKEY = pb.AUTH_METHOD_PUBLICKEY
PASSWORD = pb.AUTH_METHOD_PASSWORD
KBDINT = pb.AUTH_METHOD_KEYBOARD_INTERACTIVE

Program = Callable[[ChannelStream], Awaitable[None]]


def allow(**fields: Any) -> Any:
    return pb.Allow(**fields)


def methods(*names: int) -> Any:
    return pb.Methods(methods=names)


def begin(*names: int, **fields: Any) -> Any:
    """BeginAuth that names the methods, so that no Supported question follows."""
    return pb.BeginAuthAnswer(requirement=pb.REQUIREMENT_REQUIRED, methods=methods(*names), **fields)


def not_required(**fields: Any) -> Any:
    """BeginAuth that lets anybody in."""
    return pb.BeginAuthAnswer(requirement=pb.REQUIREMENT_NOT_REQUIRED, **fields)


def supported(yes: bool = True) -> Any:
    return pb.SupportedAnswer(support=pb.SUPPORT_YES if yes else pb.SUPPORT_NO)


def password_ok(**fields: Any) -> Any:
    return pb.PasswordAnswer(allow=allow(**fields))


def password_no(message: str = "") -> Any:
    return pb.PasswordAnswer(deny=pb.Deny(message=message))


def key_ok(**fields: Any) -> Any:
    return pb.AuthAnswer(allow=allow(**fields))


def key_no(message: str = "") -> Any:
    return pb.AuthAnswer(deny=pb.Deny(message=message))


def change_required(prompt: str = "Change it", language: str = "") -> Any:
    return pb.PasswordAnswer(change_required=pb.PasswordChange(prompt=prompt, language=language))


def challenge(*prompts: str | tuple[str, bool], **fields: Any) -> Any:
    """A prompt is its text, or (text, echo)."""
    pairs = [(each, False) if isinstance(each, str) else each for each in prompts]
    return pb.KbdintAnswer(challenge=pb.Challenge(prompts=[pb.Prompt(text=text, echo=echo) for text, echo in pairs], **fields))


def kbdint_ok(**fields: Any) -> Any:
    return pb.KbdintAnswer(allow=allow(**fields))


def kbdint_no(message: str = "") -> Any:
    return pb.KbdintAnswer(deny=pb.Deny(message=message))


def partial(*remaining: int, **fields: Any) -> Any:
    return pb.PartialSuccess(remaining=remaining, **fields)


def accept() -> Any:
    return pb.SessionAnswer(accept=pb.Accept())


def stream(target: str = "") -> Any:
    return pb.SessionAnswer(stream=pb.StreamEndpoint(target=target))


def me() -> str:
    """Who the tests, and so the daemon, run as: named, since the daemon runs nothing as root by default."""
    return pwd.getpwuid(os.geteuid()).pw_name


def process(*argv: str | bytes, user: str | None = None, directory: bytes = b"/", env: dict | None = None, **fields: Any) -> Any:
    """A program on the daemon's machine, with this environment and no other."""
    endpoint = pb.ProcessEndpoint(
        argv=[_bytes(word) for word in argv],
        environment=[pb.EnvVar(name=_bytes(name), value=_bytes(value)) for name, value in (env or {}).items()],
        user=me() if user is None else user,
        directory=directory,
        **fields,
    )
    return pb.SessionAnswer(process=endpoint)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def refuse(reason: str = "", code: int = 0) -> Any:
    return pb.SessionAnswer(refuse=pb.Refuse(code=code, reason=reason))


def grant() -> Any:
    return pb.GrantAnswer(allow=allow())


def deny_grant() -> Any:
    return pb.GrantAnswer(deny=pb.Deny())


def hop(host: str, port: int, known_hosts: str | bytes, **fields: Any) -> Any:
    """One server on the way of an UpstreamEndpoint; `fields` name the credential and what else is wanted."""
    return pb.UpstreamHop(host=host, port=port, known_hosts=_bytes(known_hosts), **fields)


def upstream(*hops: Any) -> Any:
    """A session that goes on at the last of these servers."""
    return pb.SessionAnswer(upstream=pb.UpstreamEndpoint(hops=hops))


def upstream_open(*hops: Any) -> Any:
    """Likewise a direct channel."""
    return pb.OpenAnswer(upstream=pb.UpstreamEndpoint(hops=hops))


def common(**fields: Any) -> Any:
    return pb.Common(**fields)


# ---- policies


def open_house(policy: Policy, program: Program | None = None) -> Policy:
    """Anybody logs in without a credential; every program is the given one."""
    policy.on.BeginAuth = not_required()
    serve(policy, program)
    return policy


def password_house(policy: Policy, user: str = "alice", password: str = "wonderland") -> Policy:
    """One user with one password; programs as given to serve()."""
    policy.on.BeginAuth = begin(PASSWORD)

    def check(request: Any, _context: Any) -> Any:
        good = request.context.user == user and request.password == password
        return password_ok() if good else password_no()

    policy.on.ValidatePassword = check
    serve(policy, say(b""))
    return policy


def kbdint_house(policy: Policy, code: str = "271828", user: str = "alice") -> Policy:
    """One user with a code that is asked for by keyboard-interactive."""
    policy.on.BeginAuth = begin(KBDINT)
    policy.on.GetKbdintChallenge = challenge("Code: ", name="Door", instruction="Look at your token.")

    def check(request: Any, _context: Any) -> Any:
        good = request.context.user == user and list(request.responses) == [code]
        return kbdint_ok() if good else kbdint_no()

    policy.on.ValidateKbdintResponse = check
    serve(policy, say(b""))
    return policy


PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/lib/ssh/sftp-server", "/usr/libexec/openssh/sftp-server")


def process_house(policy: Policy, **fields: Any) -> Policy:
    """Anybody logs in; commands, shells and sftp run on the daemon's machine, as with any SSH server."""
    fields = {"env": PATH, **fields}
    policy.on.BeginAuth = not_required()
    policy.on.SessionRequested = accept()
    policy.on.ShellRequested = process("/bin/bash", "--noprofile", "--norc", **fields)
    policy.on.ExecRequested = lambda request, _: process("/bin/sh", "-c", request.command, **fields)
    policy.on.SubsystemRequested = lambda request, _: (
        process(next(filter(os.path.exists, SFTP_SERVERS)), **fields) if request.name == b"sftp" else refuse("no such subsystem")
    )
    return policy


def upstream_house(policy: Policy, *hops: Any) -> Policy:
    """Anybody logs in; sessions and direct channels go on over these servers, with all that a session may have."""
    policy.on.BeginAuth = not_required()
    policy.on.SessionRequested = accept()
    policy.on.PtyRequested = policy.on.EnvRequested = policy.on.X11Requested = policy.on.AgentRequested = grant()
    policy.on.ShellRequested = policy.on.ExecRequested = policy.on.SubsystemRequested = upstream(*hops)
    policy.on.ConnectionRequested = policy.on.UnixConnectionRequested = upstream_open(*hops)
    return policy


def key_house(policy: Policy, blob: bytes) -> Policy:
    """Whoever proves to have this key."""
    policy.on.BeginAuth = begin(PUBLICKEY)
    policy.on.ValidatePublicKey = lambda request, _: key_ok() if request.key.blob == blob else key_no()
    serve(policy, say(b""))
    return policy


def serve(policy: Policy, program: Program | None) -> None:
    """Sessions end in this program."""
    policy.on.SessionRequested = stream()
    if program:
        policy.on.Channel = program


# ---- programs


def say(out: bytes, err: bytes = b"", status: int = 0) -> Program:
    """Writes, then exits; reads to the end so that nothing is cut off."""

    async def program(channel: ChannelStream) -> None:
        if out:
            await channel.write(out)
        if err:
            await channel.write(err, 1)
        await channel.exit(status)

    return program


async def cat(channel: ChannelStream) -> None:
    """Everything back until eof."""
    while data := await channel.read_data():
        await channel.write(data)
    await channel.exit(0)


async def wait_close(channel: ChannelStream) -> None:
    """A program that only ends when its client does."""
    await channel.drain()
