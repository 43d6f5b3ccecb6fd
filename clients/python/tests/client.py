"""The daemon's side of the contract, as far as the tests need it."""

import asyncio
import contextlib

import grpc
import grpc.aio

import parley
from parley._wire import SERVICE, message_class

channel_pb2 = parley.channel_pb2
common_pb2 = parley.common_pb2

CONTEXT = common_pb2.Context(connection_id="0" * 32, user="alice", state=b"old")


class Daemon:
    """Asks one policy."""

    def __init__(self, channel):
        self._calls = {}
        for method in SERVICE.methods:
            unary = method.name not in ("Channel", "Supervise")
            make = channel.unary_unary if unary else channel.stream_stream
            self._calls[method.name] = make(
                f"/{SERVICE.full_name}/{method.name}",
                request_serializer=message_class(method.input_type).SerializeToString,
                response_deserializer=message_class(method.output_type).FromString,
            )

    async def ask(self, rpc, state=None, **fields):
        request_class = message_class(SERVICE.methods_by_name[rpc].input_type)
        request = request_class(context=CONTEXT, **fields)
        if state is not None:
            request.context.state = state
        return await self._calls[rpc](request, timeout=5)

    async def status(self, rpc, **fields):
        """The code and the words of a failing question."""
        try:
            answer = await self.ask(rpc, **fields)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details()
        raise AssertionError(f"answered {answer}")

    async def open(self, max_payload_bytes=0, **start):
        """A session channel whose first event was sent."""
        start = start or {"shell": channel_pb2.ShellProgram()}
        stream = Stream(self._calls["Channel"](timeout=20))
        await stream.send(
            opened=channel_pb2.ChannelOpened(
                context=CONTEXT,
                channel=7,
                session=channel_pb2.SessionStart(**start),
                max_payload_bytes=max_payload_bytes,
            )
        )
        return stream

    def raw(self, rpc):
        return self._calls[rpc](timeout=10)


class Stream:
    def __init__(self, call):
        self.call = call

    async def send(self, **event):
        await self.call.write(channel_pb2.ChannelEvent(**event))

    async def data(self, payload):
        await self.send(data=channel_pb2.ChannelData(payload=payload))

    async def eof(self):
        await self.send(eof=channel_pb2.ChannelEof())

    async def closed(self, error=""):
        await self.send(closed=channel_pb2.ChannelClosed(error=error))

    async def receive(self):
        """The next action, or None at the end of the stream, however it ended."""
        try:
            action = await asyncio.wait_for(self.call.read(), 10)
        except grpc.aio.AioRpcError:
            return None
        return None if action is grpc.aio.EOF else action

    async def rest(self):
        """Every action until the end: joined data, joined stderr, all others."""
        out, err, others = b"", b"", []
        while True:
            action = await self.receive()
            if action is None:
                return out, err, others
            if action.WhichOneof("action") != "data":
                others.append(action)
            elif action.data.extended_type == 1:
                err += action.data.payload
            else:
                out += action.data.payload

    async def code(self):
        return await self.call.code()


@contextlib.asynccontextmanager
async def serving(policy, address="127.0.0.1:0"):
    async with parley.Server(policy, address) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield Daemon(channel)


def run(policy, scenario):
    """Serve the policy and play `async def scenario(daemon)` against it."""

    async def play():
        async with serving(policy) as daemon:
            return await asyncio.wait_for(scenario(daemon), 30)

    return asyncio.run(play())


def ask(policy, rpc, **fields):
    """One question to a policy."""
    return run(policy, lambda daemon: daemon.ask(rpc, **fields))


def status(policy, rpc, **fields):
    return run(policy, lambda daemon: daemon.status(rpc, **fields))
