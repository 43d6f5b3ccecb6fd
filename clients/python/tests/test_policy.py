"""Which handlers are served, what they are called with, and what becomes of their mistakes."""

import asyncio
import logging

import grpc
import pytest

import parley
from client import CONTEXT, ask, run, serving, status
from parley import handlers
from parley._wire import SERVICE, message_class

auth_pb2, channel_pb2, common_pb2 = parley.auth_pb2, parley.channel_pb2, parley.common_pb2
UNARY = [method.name for method in SERVICE.methods if method.name not in handlers.STREAMS]


def one(name, answer):
    """A policy with a single handler, which remembers what it was called with."""

    async def handler(self, ctx, *values):
        self.seen = (ctx, values)
        if isinstance(answer, Exception):
            raise answer
        return answer(ctx) if callable(answer) else answer

    return type("One", (parley.Policy,), {name: handler})()


def test_every_rpc_has_a_handler_whose_parameters_are_fields():
    for rpc in UNARY:
        fields = message_class(SERVICE.methods_by_name[rpc].input_type).DESCRIPTOR.fields_by_name
        assert getattr(parley.Policy, handlers.snake(rpc)).__doc__
        assert set(handlers.PARAMETERS[rpc]) <= set(fields), rpc
    assert hasattr(parley.Policy, "supervise") and hasattr(parley.Policy, "channel")


@pytest.mark.parametrize("rpc", UNARY)
def test_left_out_is_unimplemented(rpc):
    assert status(parley.Policy(), rpc)[0] == grpc.StatusCode.UNIMPLEMENTED


def test_left_out_streams_are_unimplemented():
    async def scenario(daemon):
        return [await daemon.raw(rpc).code() for rpc in ("Channel", "Supervise")]

    assert run(parley.Policy(), scenario) == [grpc.StatusCode.UNIMPLEMENTED] * 2


def test_arguments_are_the_fields():
    policy = one("validate_public_key", parley.allow())
    key = auth_pb2.PublicKey(algorithm="ssh-ed25519", fingerprint="SHA256:x")
    use = auth_pb2.KeyUse(phase=parley.KEY_PHASE_PROVEN)
    ask(policy, "ValidatePublicKey", key=key, use=use)
    ctx, values = policy.seen
    assert values == (key, use) and ctx.user == "alice" and ctx.connection_id == "0" * 32


def test_optional_fields_are_none():
    policy = one("tun_requested", parley.refuse())
    ask(policy, "TunRequested", channel=3)
    assert policy.seen[1] == (None,) and policy.seen[0].channel == 3
    ask(policy, "TunRequested", unit=0)
    assert policy.seen[1] == (0,)


def test_context_knows_everything():
    policy = one("exec_requested", parley.stream())
    ask(policy, "ExecRequested", channel=5, command=b"id", original_command=b"sh")
    ctx, values = policy.seen
    assert values == (b"id",) and ctx.channel == 5 and ctx.request.original_command == b"sh"
    assert one("begin_auth", None) and not ctx.authenticated and ctx.passed == CONTEXT.passed
    assert ctx.state == b"old" and "alice" in repr(ctx)


def test_context_adds_to_the_answer():
    def answer(ctx):
        ctx.state = ctx.state + b"+new"
        ctx.log(rule="r1", tries=3)
        ctx.banner("hello")
        ctx.disconnect("bye", code=14)
        return parley.deny()

    common = ask(one("validate_password", answer), "ValidatePassword", password="x").common
    assert common.state == b"old+new"
    assert dict(common.log) == {"rule": "r1", "tries": "3"}
    assert common.banner.text == "hello"
    assert (common.disconnect.code, common.disconnect.reason) == (14, "bye")


def test_an_answer_leaves_the_state_alone_unless_it_was_set():
    common = ask(one("validate_password", True), "ValidatePassword", password="x").common
    assert common.WhichOneof("new_state") is None


def test_state_can_be_emptied():
    def answer(ctx):
        ctx.state = b""
        return True

    common = ask(one("validate_password", answer), "ValidatePassword", password="x").common
    assert common.WhichOneof("new_state") == "state" and common.state == b""


def test_plain_functions_are_handlers_too():
    class Plain(parley.Policy):
        def validate_password(self, ctx, password):
            return password == "x"

    assert ask(Plain(), "ValidatePassword", password="x").HasField("allow")


def test_reports_need_no_answer():
    class Reports(parley.Policy):
        async def connection_lost(self, ctx, clean, reason):
            self.lost = (clean, reason, ctx.request.bytes_sent)

        async def debug_msg_received(self, ctx, message, language, always_display):
            self.debug = message

    policy = Reports()
    ask(policy, "ConnectionLost", clean=True, reason="bye", bytes_sent=9)
    ask(policy, "DebugMsgReceived", message="d")
    assert policy.lost == (True, "bye", 9) and policy.debug == "d"


@pytest.mark.parametrize("answer", [None, "yes", 1, parley.accept(), ValueError("x")])
def test_mistakes_refuse(answer):
    policy = one("validate_password", answer)
    assert status(policy, "ValidatePassword")[0] == grpc.StatusCode.INTERNAL


def test_not_implemented_error_is_a_mistake_too():
    """UNIMPLEMENTED would be remembered as absent, for every user."""
    policy = one("validate_password", NotImplementedError())
    assert status(policy, "ValidatePassword")[0] == grpc.StatusCode.INTERNAL


def test_exceptions_are_logged_and_not_sent(caplog):
    policy = one("exec_requested", RuntimeError("database is down"))
    code, details = status(policy, "ExecRequested", command=b"id")
    assert code == grpc.StatusCode.INTERNAL and "database" not in details
    assert "database is down" in caplog.text and "Traceback" in caplog.text


@pytest.mark.parametrize(
    "rpc, secret",
    [
        ("ValidatePassword", {"password": "hunter2"}),
        ("ChangePassword", {"old_password": "hunter2", "new_password": "hunter2"}),
        ("ValidateKbdintResponse", {"responses": ["hunter2"]}),
    ],
)
def test_secrets_stay_out_of_logs_and_status(rpc, secret, caplog):
    caplog.set_level(logging.DEBUG)

    class Leaky(parley.Policy):
        def look_up(self, *words):
            try:
                return {}[str(words[0])]
            except KeyError:
                raise LookupError(f"no such thing: {words}")

        def validate_password(self, ctx, password):
            return self.look_up(password)

        async def change_password(self, ctx, old_password, new_password):
            return self.look_up(new_password)

        async def validate_kbdint_response(self, ctx, responses):
            return self.look_up(list(responses))

    code, details = status(Leaky(), rpc, **secret)
    assert code == grpc.StatusCode.INTERNAL
    assert "hunter2" not in details + caplog.text
    assert "look_up" in caplog.text and "KeyError" in caplog.text  # still enough to find the line


def test_overriding_the_check_says_that_it_is_supported():
    class Login(parley.Policy):
        async def validate_password(self, ctx, password):
            return False

        async def validate_ca_key(self, ctx, ca, key, certificate, use):
            return False

        async def get_kbdint_challenge(self, ctx, language, submethods):
            return False

    async def scenario(daemon):
        yes = parley.login_pb2.SUPPORT_YES
        for kind in ("Password", "PublicKey", "Kbdint"):
            assert (await daemon.ask(f"{kind}AuthSupported")).support == yes
        code, _ = await daemon.status("HostBasedAuthSupported")
        assert code == grpc.StatusCode.UNIMPLEMENTED

    run(Login(), scenario)


def test_what_was_written_beats_what_is_implied():
    class Login(parley.Policy):
        async def password_auth_supported(self, ctx):
            return False

        async def validate_password(self, ctx, password):
            return True

    assert ask(Login(), "PasswordAuthSupported").support == parley.login_pb2.SUPPORT_NO


def test_overriding_session_streams_it_here():
    class Shell(parley.Policy):
        async def session(self, s):
            return 0

    assert ask(Shell(), "SessionRequested").HasField("stream")
    assert status(Shell(), "ShellRequested")[0] == grpc.StatusCode.UNIMPLEMENTED


def test_handlers_run_side_by_side():
    class Slow(parley.Policy):
        async def begin_auth(self, ctx):
            await asyncio.sleep(0.2)
            return parley.require_auth()

    async def scenario(daemon):
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.gather(*(daemon.ask("BeginAuth") for _ in range(50)))
        assert loop.time() - start < 5

    run(Slow(), scenario)


def test_supervise():
    class Supervisor(parley.Policy):
        async def supervise(self, events):
            async for event in events:
                if event.WhichOneof("event") == "started":
                    yield parley.connection_pb2.SuperviseAction(
                        id=1, disconnect=common_pb2.Disconnect(reason="closing time")
                    )

    async def scenario(daemon):
        call = daemon.raw("Supervise")
        started = parley.connection_pb2.SuperviseStarted(context=CONTEXT)
        await call.write(parley.connection_pb2.SuperviseEvent(started=started))
        action = await call.read()
        await call.done_writing()
        assert action.disconnect.reason == "closing time"
        assert await call.code() == grpc.StatusCode.OK

    run(Supervisor(), scenario)


# ---- where it is served


def test_the_address_comes_from_the_daemon(monkeypatch, tmp_path):
    path = tmp_path / "policy.sock"
    for address in (f"unix:{path}", str(path)):
        monkeypatch.setenv("PARLEY_POLICY_ADDRESS", address)

        async def play():
            async with serving(parley.Policy(), None) as daemon:
                assert (path.stat().st_mode & 0o777) == 0o700
                return await daemon.status("BeginAuth")

        assert asyncio.run(play())[0] == grpc.StatusCode.UNIMPLEMENTED


def test_the_default_address(monkeypatch):
    monkeypatch.delenv("PARLEY_POLICY_ADDRESS", raising=False)
    assert parley.Server(parley.Policy()).address == "127.0.0.1:50051"


@pytest.mark.parametrize(
    "address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:1", "policy.example:1", ":1"]
)
def test_plain_text_stays_here(address):
    with pytest.raises(ValueError):
        parley.Server(parley.Policy(), address)
    parley.Server(parley.Policy(), address, insecure=True)


def test_an_address_that_is_taken_is_an_error():
    async def play():
        async with parley.Server(parley.Policy(), "127.0.0.1:0") as first:
            with pytest.raises((OSError, RuntimeError)):
                await parley.Server(parley.Policy(), first.address).start()

    asyncio.run(play())
