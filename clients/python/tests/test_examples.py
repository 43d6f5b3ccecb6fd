"""The examples do what they say; test_with_daemon.py plays two of them through a real daemon."""

import asyncio
import importlib.util
import json
import os
import pwd
import types
from pathlib import Path

import grpc
import pytest

import parley
from client import CONTEXT, ask, run

PACKAGE = Path(__file__).resolve().parent.parent
channel_pb2, auth_pb2 = parley.channel_pb2, parley.auth_pb2


def example(name):
    spec = importlib.util.spec_from_file_location(name, PACKAGE / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def play(policy, *data, **start):
    """Open a session, send the data and EOF; what came back and the exit status."""

    async def send(stream):
        for payload in data:
            await stream.data(payload)
        await stream.eof()

    async def scenario(daemon):
        stream = await daemon.open(**start)
        # Side by side: a session may end without reading, and then gRPC's Python client waits, in a write, for us to
        # read what came before.
        sending = asyncio.ensure_future(send(stream))
        result = await stream.rest()
        sending.cancel()
        await asyncio.wait({sending})
        return result

    out, err, others = run(policy, scenario)
    assert others[-1].WhichOneof("action") == "exit_status"
    return out, err, others[-1].exit_status.status


def command(line):
    return {"exec": channel_pb2.ExecProgram(command=line)}


PTY = {"shell": channel_pb2.ShellProgram(), "pty": channel_pb2.Pty(term="xterm")}


# ---- the README's


def test_the_readme_shows_the_example_exactly():
    readme = PACKAGE.parent.parent / "README.md"
    if not readme.exists():
        pytest.skip("not in a checkout")
    text = (PACKAGE / "examples" / "readme.py").read_text()
    assert f"```python\n{text}```\n" in readme.read_text()
    assert len(text.splitlines()) == 20


def test_readme():
    policy = example("readme").Hello()
    assert ask(policy, "PasswordAuthSupported").support == parley.login_pb2.SUPPORT_YES
    assert ask(policy, "ValidatePassword", password="wonderland").HasField("allow")
    assert ask(policy, "ValidatePassword", password="").HasField("deny")
    assert play(policy, **command(b"ls \xff")) == (b"You said: ls \xff\n", b"", 0)
    assert play(policy, b"hi\n")[0].endswith(b"HI\n")


# ---- the three that every language has


def test_allow_all():
    policy = example("allow_all").AllowAll()
    answer = ask(policy, "BeginAuth")
    assert answer.requirement == parley.login_pb2.REQUIREMENT_NOT_REQUIRED
    out, _, status = play(policy, **command(b"id"))
    assert b"You are alice" in out and b"b'id'" in out and status == 0


def test_deny_all():
    policy = example("deny_all").DenyAll()
    assert ask(policy, "BeginAuth").common.banner.text.startswith("This server is closed")
    assert ask(policy, "ValidatePassword", password="x").HasField("deny")
    assert ask(policy, "ValidatePublicKey").HasField("deny")
    assert ask(policy, "SessionRequested").HasField("refuse")


def test_recorder(tmp_path):
    policy = example("recorder").Recorder(tmp_path)
    out, _, status = play(policy, b"ls\r", b"\x04", **PTY)
    assert (out, status) == (b"$ ls\r\n$ ", 0)
    (cast,) = tmp_path.glob("*.cast")
    header, *events = map(json.loads, cast.read_text().splitlines())
    assert header["version"] == 2 and header["title"].startswith("alice")
    assert [event[1:] for event in events] == [
        ["o", "$ "],
        ["i", "ls\r"],
        ["o", "ls\r\n$ "],
        ["i", "\x04"],
    ]


def test_recorder_has_no_commands(tmp_path):
    policy = example("recorder").Recorder(tmp_path)
    assert play(policy, **command(b"rm -rf /")) == (b"rm: not found\n", b"", 127)


# ---- a password and a code

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # RFC 6238 appendix B


def test_codes_are_those_of_rfc_6238():
    code_at = example("one_time_code").code_at
    for seconds, code in ((59, "287082"), (1111111109, "081804"), (20000000000, "353130")):
        assert code_at(SECRET, seconds // 30) == code


def dialogue(policy, password, code):
    """How one login ends, the state carried as a daemon does."""
    state = b""

    async def scenario(daemon):
        nonlocal state
        for rpc, fields in (
            ("GetKbdintChallenge", {}),
            ("ValidateKbdintResponse", {"responses": [password]}),
            ("ValidateKbdintResponse", {"responses": [code]}),
        ):
            answer = await daemon.ask(rpc, state=state, **fields)
            state = answer.common.state if answer.common.HasField("state") else state
            outcomes.append(answer.WhichOneof("outcome"))

    outcomes = []
    run(policy, scenario)
    return outcomes


def test_one_time_code():
    now = [59]
    policy = example("one_time_code").OneTimeCode({"alice": ("wonderland", SECRET)}, lambda: now[0])
    assert ask(policy, "KbdintAuthSupported").support == parley.login_pb2.SUPPORT_YES
    for password, code, end in (
        ("looking glass", "287082", "deny"),
        ("wonderland", "287083", "deny"),
        ("wonderland", "287082", "allow"),
        ("wonderland", "287082", "deny"),  # each code once
        ("", "", "deny"),
    ):
        assert dialogue(policy, password, code) == ["challenge", "challenge", end]
    now[0] = 1111111109
    assert dialogue(policy, "wonderland", "081804")[-1] == "allow"


# ---- the shell server


def test_shell_server(tmp_path, monkeypatch):
    module = example("shell_server")
    me = pwd.getpwuid(os.getuid())
    home = me[:5] + (str(tmp_path),) + me[6:]
    monkeypatch.setattr(module.pwd, "getpwnam", lambda name: pwd.struct_passwd(home) if name == CONTEXT.user else {}[name])
    (tmp_path / ".ssh").mkdir()
    keys = tmp_path / ".ssh" / "authorized_keys"
    assert module.authorized_keys(CONTEXT.user) == module.authorized_keys("nobody-here") == b""
    keys.write_text("ssh-ed25519 AAAA me\n")
    keys.chmod(0o600)
    policy = module.ShellServer()
    answer = ask(policy, "BeginAuth")
    assert answer.authorized_keys == b"ssh-ed25519 AAAA me\n"
    keys.chmod(0o666)
    assert module.authorized_keys(CONTEXT.user) == b""
    keys.unlink()
    os.mkfifo(keys)
    assert module.authorized_keys(CONTEXT.user) == b""


# ---- the jump host


def test_jump_host(tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "alice").write_text("ssh-ed25519 AAAA alice\n")
    (tmp_path / "id").write_bytes(b"private")
    (tmp_path / "known_hosts").write_bytes(b"known")
    (tmp_path / "table").write_text(
        "# who server where\n\nalice web1 deploy@10.0.0.1\nalice db postgres@db.example:2200\nalice broken x\nbob web1 root@10.0.0.1\n"
    )
    policy = example("jump_host").JumpHost(tmp_path)

    def way(user):
        return policy.way(types.SimpleNamespace(user=user))

    db = way("alice+db")
    assert (db.host, db.port, db.user) == ("db.example", 2200, "postgres")
    assert (db.private_key, db.known_hosts) == (b"private", b"known")
    assert (way("alice+web1").port, way("bob+web1").user) == (22, "root")
    for user in ("alice", "alice+", "alice+broken", "alice+web2", "bob+db", "+web1", "# who", "alice+web1+db", ""):
        assert way(user) is None, user
    assert ask(policy, "BeginAuth").authorized_keys == b"ssh-ed25519 AAAA alice\n"
    (tmp_path / "keys" / "alice").unlink()
    assert ask(policy, "BeginAuth").authorized_keys == b""
    assert ask(policy, "AuthCompleted").HasField("deny")  # alice alone goes nowhere
    assert ask(policy, "SessionRequested").HasField("refuse")
    assert ask(policy, "ConnectionRequested", dest_host="x", dest_port=1).HasField("refuse")


# ---- the demo


@pytest.fixture
def demo():
    return example("demo").Demo({("ssh-ed25519", "AAAAkey")})


def test_demo_logins(demo):
    assert ask(demo, "ValidatePassword", password="demo").HasField("allow")
    assert ask(demo, "ValidatePassword", password="Demo").HasField("deny")
    good = auth_pb2.PublicKey(openssh="ssh-ed25519 AAAAkey alice@home")
    assert ask(demo, "ValidatePublicKey", key=good).HasField("allow")
    for bad in ("ssh-ed25519 AAAAother", "ssh-rsa AAAAkey", ""):
        answer = ask(demo, "ValidatePublicKey", key=auth_pb2.PublicKey(openssh=bad))
        assert answer.HasField("deny")


def test_demo_keys(tmp_path):
    path = tmp_path / "keys"
    path.write_text("# mine\n\nssh-ed25519 AAAA me@home\nssh-rsa BBBB\n")
    assert example("demo").read_keys(path) == {("ssh-ed25519", "AAAA"), ("ssh-rsa", "BBBB")}


@pytest.mark.parametrize(
    "line, expected",
    [
        (b"echo hello  world", (b"hello  world\n", b"", 0)),
        (b"true", (b"", b"", 0)),
        (b"false", (b"", b"", 1)),
        (b"exit 7", (b"", b"", 7)),
        (b"rm -rf /", (b"", b"rm: no such command; try help\n", 127)),
    ],
)
def test_demo_commands(demo, line, expected):
    assert play(demo, **command(line)) == expected


def test_demo_cat(demo):
    payload = bytes(range(256)) * 1000
    assert play(demo, payload, b"end", **command(b"cat")) == (payload + b"end", b"", 0)


def test_demo_who_and_help(demo):
    assert b"alice" in play(demo, **command(b"who"))[0]
    assert b"clock" in play(demo, **command(b"help"))[0]
    assert demo.sessions == []


def test_demo_has_no_subsystems(demo):
    start = {"subsystem": channel_pb2.SubsystemProgram(name=b"sftp")}
    assert play(demo, **start)[2] == 1


def test_demo_shell_without_terminal(demo):
    out, err, status = play(demo, b"echo a\nnon", b"sense\nexit\n")
    assert out.endswith(b"try help.\na\nBye.\n") and b"parley>" not in out and b"\r" not in out
    assert err == b"nonsense: no such command; try help\n" and status == 127


def test_demo_shell_with_terminal(demo):
    out, _, status = play(demo, b"ecxx\x7f\x7fho \x1b[Da\r", b"half\x03", b"\x04", **PTY)
    assert b"parley> ecxx\b \b\b \bho a\r\na\r\nparley> half^C\r\nparley> \r\nBye.\r\n" in out
    assert status == 0


def test_demo_backspace_takes_a_whole_character(demo):
    out, _, _ = play(demo, "echo né\x7f\x7fo\r".encode(), b"exit\r", **PTY)
    assert b"\r\no\r\n" in out


def test_demo_shell_ends_with_its_input(demo):
    assert play(demo, b"echo last")[0].endswith(b"last\nBye.\n")


def test_demo_clock_stops_at_the_key_and_at_the_signal(demo):
    async def scenario(daemon):
        key = await daemon.open(**PTY)
        await key.data(b"clock\r")
        await key.data(b"\x03exit\r")
        out, _, _ = await key.rest()
        assert b"^C\r\n" in out and out.endswith(b"Bye.\r\n")
        signal = await daemon.open(**command(b"clock"))
        await signal.send(signal=channel_pb2.Signal(name="INT"))
        _, _, others = await signal.rest()
        assert others[-1].exit_status.status == 130
        assert await signal.code() == grpc.StatusCode.OK

    run(demo, scenario)
