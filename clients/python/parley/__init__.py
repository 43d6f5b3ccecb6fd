"""Policies for parleyd, the SSH server that asks.

import parley

class MyPolicy(parley.Policy):
    async def validate_password(self, ctx, password):
        return parley.allow() if password == "demo" else parley.deny()

    async def session(self, s):
        await s.write(f"Hello {s.user}\\n")

parley.serve(MyPolicy())
"""

from pkgutil import extend_path

# The generated modules parley.policy.v1.* may live in another folder of the path (build/python, in the repository).
__path__ = extend_path(__path__, __name__)

from parley._wire import auth_pb2, channel_pb2, common_pb2, connection_pb2, login_pb2  # noqa: E402
from parley.answers import (  # noqa: E402
    METHODS,
    TIED_TO_PASSWORD,
    Answer,
    accept,
    allow,
    challenge,
    change_required,
    deny,
    forward,
    limits,
    listen,
    managed,
    no_auth_required,
    partial,
    process,
    refuse,
    require_auth,
    restrictions,
    stream,
    upstream,
)
from parley.channel import (  # noqa: E402
    Break,
    Channel,
    ChannelClosed,
    Data,
    Eof,
    Session,
    Signal,
    WindowChange,
)
from parley.context import Context  # noqa: E402
from parley.handlers import Policy  # noqa: E402
from parley.programs import login_environment, login_shell, sftp_server  # noqa: E402
from parley.server import Server, serve, service  # noqa: E402

__version__ = "0.1.0"

KEY_PHASE_PROBE = auth_pb2.KEY_PHASE_PROBE
KEY_PHASE_PROVEN = auth_pb2.KEY_PHASE_PROVEN
ChannelOptions = channel_pb2.ChannelOptions
ClientAgent = channel_pb2.ClientAgent
UpstreamHop = channel_pb2.UpstreamHop

__all__ = [
    "METHODS", "TIED_TO_PASSWORD", "Answer", "accept", "allow", "challenge", "change_required", "deny", "forward",
    "limits", "listen", "managed", "no_auth_required", "partial", "process", "refuse", "require_auth", "restrictions",
    "stream", "upstream", "Break", "Channel", "ChannelClosed", "Data", "Eof", "Session", "Signal", "WindowChange",
    "Context", "Policy", "login_environment", "login_shell", "sftp_server", "Server", "serve", "service", "KEY_PHASE_PROBE", "KEY_PHASE_PROVEN", "ChannelOptions",
    "ClientAgent", "UpstreamHop", "auth_pb2", "channel_pb2", "common_pb2", "connection_pb2", "login_pb2",
]  # fmt: skip
