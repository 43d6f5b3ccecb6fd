"""From a Policy to a gRPC server."""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import logging
import os
import signal
import traceback
from typing import Callable, Optional, Sequence, Tuple

import grpc
import grpc.aio

from parley._wire import SERVICE, channel_pb2, message_class
from parley.answers import to_message
from parley.channel import Channel, ChannelClosed, Session
from parley.context import Context
from parley.handlers import Policy, arguments, handlers, overrides

log = logging.getLogger("parley")

DEFAULT_ADDRESS = "127.0.0.1:50051"

# What the client hears is "refused"; the reason is for our log only.
FAILED = "the policy's handler failed"

# Questions whose exceptions may quote a secret: KeyError('hunter2') from a look-up is enough.
SECRET = {"ValidatePassword", "ChangePassword", "ValidateKbdintResponse"}

# The daemon keeps its links up with pings; gRPC's own limits for them would end such a link.
OPTIONS: Sequence[Tuple[str, object]] = (
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
)


def _log_failure(rpc: str, ctx: Context, error: BaseException) -> None:
    if rpc not in SECRET:
        log.error("%s failed: %r", rpc, ctx, exc_info=error)
        return
    lines = []
    seen: set = set()
    cause: Optional[BaseException] = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        lines += traceback.format_tb(cause.__traceback__)
        lines.append(f"{type(cause).__qualname__} (its text is withheld: it may hold a secret)\n")
        cause = cause.__cause__ or cause.__context__
    log.error("%s failed: %r\n%s", rpc, ctx, "".join(lines).rstrip())


def _unary(rpc: str, handler: Callable, answer_class) -> Callable:
    is_report = answer_class.DESCRIPTOR.name == "Ack"

    async def answer(request, rpc_context):
        ctx = Context(request)
        try:
            value = handler(ctx, *arguments(rpc, request))
            if inspect.isawaitable(value):
                value = await value
            message = answer_class() if is_report else to_message(value, answer_class)
            ctx.add_to(message)
            return message
        except Exception as error:
            _log_failure(rpc, ctx, error)
        await rpc_context.abort(grpc.StatusCode.INTERNAL, FAILED)

    return answer


def _channel(policy: Policy) -> Callable:
    async def serve_channel(_requests, rpc_context):
        # At once: the daemon waits for this before it believes that somebody handles the channel.
        await rpc_context.send_initial_metadata(())
        first = await rpc_context.read()
        if first is grpc.aio.EOF or first.WhichOneof("event") != "opened":
            await rpc_context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "the first event must be opened"
            )
        kind = first.opened.WhichOneof("kind")
        name = "session" if kind == "session" else "channel"
        if kind is None or not overrides(policy, name):
            await rpc_context.abort(
                grpc.StatusCode.UNIMPLEMENTED, f"this policy has no {name} handler"
            )
        channel = (Session if kind == "session" else Channel)(rpc_context, first.opened)
        pump = asyncio.ensure_future(channel._pump())
        try:
            returned = await getattr(policy, name)(channel)
            if isinstance(channel, Session):
                await channel._finish(returned)
            return
        except ChannelClosed:
            return  # the client has left; there is nobody to tell
        except Exception as error:
            _log_failure("Channel", channel.ctx, error)
        finally:
            pump.cancel()
        await rpc_context.abort(grpc.StatusCode.INTERNAL, FAILED)

    return serve_channel


def service(policy: Policy) -> grpc.GenericRpcHandler:
    """The gRPC service of a policy: only what it overrides, so that gRPC answers UNIMPLEMENTED to the rest."""
    table = {}
    unary = handlers(policy)
    for method in SERVICE.methods:
        request_class = message_class(method.input_type)
        answer_class = message_class(method.output_type)
        codec = {
            "request_deserializer": request_class.FromString,
            "response_serializer": answer_class.SerializeToString,
        }
        if method.name in unary:
            call = _unary(method.name, unary[method.name], answer_class)
            table[method.name] = grpc.unary_unary_rpc_method_handler(call, **codec)
        elif method.name == "Channel" and (
            overrides(policy, "session") or overrides(policy, "channel")
        ):
            table["Channel"] = grpc.stream_stream_rpc_method_handler(_channel(policy), **codec)
        elif method.name == "Supervise" and overrides(policy, "supervise"):

            async def supervise(events, _rpc_context):
                async for action in policy.supervise(events):
                    yield action

            table["Supervise"] = grpc.stream_stream_rpc_method_handler(supervise, **codec)
    return grpc.method_handlers_generic_handler(SERVICE.full_name, table)


def _is_private(address: str) -> bool:
    """Does plain text stay on this machine?"""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Server:
    """A policy being served; `async with parley.Server(MyPolicy()) as server:` starts and stops it.

    `address` is unix:/path or host:port (port 0: any; see `server.address` then). Left out, it is
    PARLEY_POLICY_ADDRESS, which parleyd sets for a program that it starts itself, or 127.0.0.1:50051.
    """

    def __init__(
        self,
        policy: Policy,
        address: Optional[str] = None,
        *,
        credentials: Optional[grpc.ServerCredentials] = None,
        insecure: bool = False,
        options: Sequence[Tuple[str, object]] = (),
    ) -> None:
        address = address or os.environ.get("PARLEY_POLICY_ADDRESS") or DEFAULT_ADDRESS
        self.address = f"unix:{address}" if address.startswith("/") else address
        if credentials is None and not insecure and not _is_private(self.address):
            raise ValueError(
                f"{self.address} is reachable from other machines: give credentials, or say insecure=True"
            )
        self._policy = policy
        self._credentials = credentials
        self._options = [*OPTIONS, *options]
        self._server: Optional[grpc.aio.Server] = None

    async def start(self) -> None:
        server = grpc.aio.server(options=self._options)
        server.add_generic_rpc_handlers((service(self._policy),))
        mask = os.umask(0o077)  # a Unix socket is ours alone
        try:
            if self._credentials is None:
                port = server.add_insecure_port(self.address)
            else:
                port = server.add_secure_port(self.address, self._credentials)
        finally:
            os.umask(mask)
        if port == 0:
            raise OSError(f"cannot listen on {self.address}")
        await server.start()
        self._server = server
        if not self.address.startswith("unix"):
            self.address = f"{self.address.rpartition(':')[0]}:{port}"
        log.info("policy %s on %s", type(self._policy).__name__, self.address)

    async def stop(self, grace: Optional[float] = None) -> None:
        """No new calls; those that run get `grace` seconds to end."""
        if self._server is not None:
            await self._server.stop(grace)

    async def wait(self) -> None:
        """Until the server is stopped."""
        await self._server.wait_for_termination()

    async def __aenter__(self) -> "Server":
        await self.start()
        return self

    async def __aexit__(self, *_exception) -> None:
        await self.stop()


async def _serve(server: Server, grace: float) -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    await server.start()
    await asked.wait()
    await server.stop(grace)


def serve(policy: Policy, address: Optional[str] = None, *, grace: float = 1.0, **settings) -> None:
    """Serve until SIGINT or SIGTERM; then sessions have `grace` seconds to end. Settings are those of `Server`."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    asyncio.run(_serve(Server(policy, address, **settings), grace))
