"""The class a policy derives from: one method per RPC of the contract."""

from __future__ import annotations

import inspect
import re
from typing import Callable, Dict, Optional, Tuple

from parley import answers
from parley._wire import SERVICE
from parley.channel import Channel, Session
from parley.context import Context

STREAMS = {"Supervise", "Channel"}


class Policy:
    """Override the handlers you care about, as `async def` or `def`.

    One that you leave out is not served at all, so the daemon gets UNIMPLEMENTED and that handler's default holds
    (nearly always: refuse; the contract in proto/ names it at each RPC). An exception in a handler refuses.

    Two conveniences: overriding `session` makes `session_requested` answer `stream()`, and overriding the handler of
    a kind of authentication makes its `*_supported` answer True, unless you override those too.

    Parameters after `ctx` are named like the fields of the question; `ctx.request` has all of them.
    """

    # ---- connection

    async def connection_made(self, ctx: Context):
        """A client connected. allow() or deny(). Default: allow."""
        raise NotImplementedError

    async def connection_lost(self, ctx: Context, clean: bool, reason: str):
        """The connection ended; durations and byte counts are in `ctx.request`. Nobody waits for the answer."""
        raise NotImplementedError

    async def debug_msg_received(
        self, ctx: Context, message: str, language: str, always_display: bool
    ):
        """The client sent SSH_MSG_DEBUG. Nobody waits for the answer."""
        raise NotImplementedError

    async def supervise(self, events):
        """An async generator: takes SuperviseEvent messages, yields SuperviseAction messages.

        Opened if connection_made or auth_completed answered allow(supervise=True).
        """
        raise NotImplementedError

    # ---- authentication

    async def begin_auth(self, ctx: Context):
        """A user name was offered. require_auth(...) or no_auth_required(). Default: require_auth()."""
        raise NotImplementedError

    async def auth_completed(self, ctx: Context, restrictions):
        """Login succeeded; channels wait for this answer. allow() or deny(). Default: allow."""
        raise NotImplementedError

    async def host_based_auth_supported(self, ctx: Context):
        """True or False."""
        raise NotImplementedError

    async def public_key_auth_supported(self, ctx: Context):
        """True or False."""
        raise NotImplementedError

    async def password_auth_supported(self, ctx: Context):
        """True or False."""
        raise NotImplementedError

    async def kbdint_auth_supported(self, ctx: Context):
        """True, False or TIED_TO_PASSWORD, which is the default."""
        raise NotImplementedError

    async def validate_public_key(self, ctx: Context, key, use):
        """Is `key` (`key.openssh`, `key.fingerprint`, ...) good for `ctx.user`?

        Asked for the offer (`use.phase` is KEY_PHASE_PROBE) and again for the proof (KEY_PHASE_PROVEN). Answer with
        allow(), deny() or partial().
        """
        raise NotImplementedError

    async def validate_ca_key(self, ctx: Context, ca, key, certificate, use):
        """Is `ca` trusted to certify `ctx.user`? The daemon checks the certificate itself."""
        raise NotImplementedError

    async def validate_password(self, ctx: Context, password: str):
        """allow(), deny(), partial() or change_required()."""
        raise NotImplementedError

    async def change_password(self, ctx: Context, old_password: str, new_password: str):
        """As validate_password; allow() completes the login."""
        raise NotImplementedError

    async def get_kbdint_challenge(self, ctx: Context, language: str, submethods: str):
        """challenge(), or an outcome at once."""
        raise NotImplementedError

    async def validate_kbdint_response(self, ctx: Context, responses):
        """allow(), deny(), partial() or another challenge()."""
        raise NotImplementedError

    async def validate_host_public_key(
        self, ctx: Context, resolved_host: str, claimed_host: str, key
    ):
        """Host-based login: is this the key of that host?"""
        raise NotImplementedError

    async def validate_host_ca_key(
        self, ctx: Context, resolved_host: str, claimed_host: str, key, certificate
    ):
        """Host-based login: may `key` certify that host?"""
        raise NotImplementedError

    async def validate_host_based_user(
        self, ctx: Context, resolved_host: str, claimed_host: str, client_user: str
    ):
        """May `client_user` of that host log in as `ctx.user`? Default: if both names are equal."""
        raise NotImplementedError

    async def validate_gss_principal(self, ctx: Context, user_principal: str, host_principal: str):
        """Default: allow if the principal is user@host's-domain."""
        raise NotImplementedError

    # ---- channels that the client opens

    async def session_requested(self, ctx: Context):
        """stream(), process(), upstream(), refuse(), or accept() to choose when the program is asked for."""
        raise NotImplementedError

    async def connection_requested(
        self, ctx: Context, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ):
        """direct-tcpip: forward(), stream(), upstream() or refuse()."""
        raise NotImplementedError

    async def unix_connection_requested(self, ctx: Context, dest_path: bytes):
        """direct-streamlocal: forward(), stream(), upstream() or refuse()."""
        raise NotImplementedError

    async def tun_requested(self, ctx: Context, unit: Optional[int]):
        """forward(), stream() or refuse()."""
        raise NotImplementedError

    async def tap_requested(self, ctx: Context, unit: Optional[int]):
        """forward(), stream() or refuse()."""
        raise NotImplementedError

    # ---- listeners

    async def server_requested(self, ctx: Context, listen_host: str, listen_port: int):
        """listen(), managed() or refuse()."""
        raise NotImplementedError

    async def unix_server_requested(self, ctx: Context, listen_path: bytes):
        """listen(), managed() or refuse()."""
        raise NotImplementedError

    async def forward_accepted(self, ctx: Context, listened, originator):
        """A connection arrived at a listener granted with ask_each: accept(), stream() or refuse()."""
        raise NotImplementedError

    # ---- inside a session

    async def pty_requested(self, ctx: Context, pty):
        """allow() or deny(). Default: allow."""
        raise NotImplementedError

    async def env_requested(self, ctx: Context, variable):
        """allow() or deny(). Default: allow TERM, LANG and LC_*, deny others."""
        raise NotImplementedError

    async def x11_requested(self, ctx: Context, x11):
        """allow() or deny()."""
        raise NotImplementedError

    async def agent_requested(self, ctx: Context):
        """allow() or deny()."""
        raise NotImplementedError

    async def shell_requested(self, ctx: Context):
        """As session_requested, and accept() starts what that one chose. Default: the same."""
        raise NotImplementedError

    async def exec_requested(self, ctx: Context, command: bytes):
        """As shell_requested."""
        raise NotImplementedError

    async def subsystem_requested(self, ctx: Context, name: bytes):
        """As shell_requested."""
        raise NotImplementedError

    # ---- data

    async def session(self, s: Session):
        """A session whose endpoint is a stream to this policy. Returning ends it: with the status given to `s.exit()`,
        returned as a number, or 0. An exception ends it without one."""
        raise NotImplementedError

    async def channel(self, c: Channel):
        """Any other channel whose endpoint is a stream to this policy. Returning closes it."""
        raise NotImplementedError


def snake(rpc: str) -> str:
    """ValidatePassword -> validate_password"""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", rpc).lower()


def overrides(policy: Policy, name: str) -> bool:
    """Did the author write this handler?"""
    return getattr(getattr(policy, name), "__func__", None) is not getattr(Policy, name)


def _constant(value) -> Callable:
    return lambda ctx: value


def handlers(policy: Policy) -> Dict[str, Callable]:
    """The unary RPCs that this policy answers, by RPC name; the conveniences of `Policy` included."""
    found = {}
    for method in SERVICE.methods:
        name = snake(method.name)
        if method.name not in STREAMS and overrides(policy, name):
            found[method.name] = getattr(policy, name)
    implied: Tuple[Tuple[str, object, Tuple[str, ...]], ...] = (
        ("SessionRequested", answers.stream(), ("session",)),
        ("PublicKeyAuthSupported", True, ("validate_public_key", "validate_ca_key")),
        ("PasswordAuthSupported", True, ("validate_password",)),
        ("KbdintAuthSupported", True, ("get_kbdint_challenge",)),
        (
            "HostBasedAuthSupported",
            True,
            ("validate_host_public_key", "validate_host_ca_key"),
        ),
    )
    for rpc, answer, by in implied:
        if rpc not in found and any(overrides(policy, name) for name in by):
            found[rpc] = _constant(answer)
    return found


# The base class is the table: after ctx, a handler's parameters are fields of its question. So a question may get
# new fields without breaking policies that were written before.
PARAMETERS = {
    method.name: tuple(inspect.signature(getattr(Policy, snake(method.name))).parameters)[2:]
    for method in SERVICE.methods
    if method.name not in STREAMS
}


def arguments(rpc: str, request) -> list:
    """The values of a handler's parameters; None for an optional field that is unset."""
    values = []
    for name in PARAMETERS[rpc]:
        field = request.DESCRIPTOR.fields_by_name[name]
        unset = field.containing_oneof is not None and not request.HasField(name)
        values.append(None if unset else getattr(request, name))
    return values
