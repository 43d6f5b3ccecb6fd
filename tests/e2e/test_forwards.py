"""X11 and agent forwarding for a program that the daemon runs: real sockets, each connection a channel to the client."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any, Callable, Iterator

import asyncssh
import paramiko
import pytest

from harness.answers import allow, grant, open_house
from harness.contract import pb
from harness.daemon import Daemon, clean_env
from harness.keys import Key
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.wait import PATIENCE_S, poll
from harness.wire import boolean, string, u32

Raw = Callable[..., RawClient]

ME = pwd.getpwuid(os.geteuid()).pw_name
COOKIE = "00112233445566778899aabbccddeeff"
X11_REQUEST = string("MIT-MAGIC-COOKIE-1") + string(COOKIE) + u32(0)

# What an X11 client does first: finds the display's record in $XAUTHORITY, and shows its cookie.
X_CLIENT = r"""
import os, socket, struct, sys

def records(data):
    while data:
        family, data = struct.unpack(">H", data[:2])[0], data[2:]
        fields = []
        for _ in range(4):
            size = struct.unpack(">H", data[:2])[0]
            fields.append(data[2 : 2 + size])
            data = data[2 + size :]
        yield family, *fields

def padded(data):
    return data + bytes(-len(data) % 4)

host, _, rest = os.environ["DISPLAY"].partition(":")
number = rest.split(".")[0]
with open(os.environ["XAUTHORITY"], "rb") as file:
    found = [record for record in records(file.read()) if record[2] == number.encode()]
assert {record[0] for record in found} == {256, 65535} and host == "localhost"
name, cookie = found[0][3], found[0][4]
with socket.create_connection((host, 6000 + int(number))) as x:
    x.sendall(struct.pack("<BxHHHHxx", 0x6C, 11, 0, len(name), len(cookie)) + padded(name) + padded(cookie))
    size = int(sys.argv[1])
    if x.recv(1) != b"\1":  # as any X11 client, it says no more before it is let in
        size = -7
    else:
        x.sendall(struct.pack(">I", size) + b"d" * size)
    answer = b""
    while len(answer) < 7 + size and (more := x.recv(65536)):
        answer += more
print(len(answer), answer[:7].decode(), cookie.hex())
"""


def process(*argv: str, user: str = ME, **fields: Any) -> Any:
    command = [os.fsencode(each) for each in argv]
    return pb.SessionAnswer(process=pb.ProcessEndpoint(argv=command, user=user, directory=b"/", **fields))


def python(script: str, *args: str, **fields: Any) -> Any:
    return process("/usr/bin/python3", "-c", script, *args, **fields)


@pytest.fixture
def house(policy: Policy) -> Policy:
    """Grants both; the test says what runs."""
    open_house(policy)
    policy.on.X11Requested = policy.on.AgentRequested = grant()
    return policy


@pytest.fixture
def sockets(work: Path) -> Path:
    """The directory where the daemon under test makes its private ones."""
    folder = work / "sockets"
    folder.mkdir()
    folder.chmod(0o1777)
    work.chmod(0o755)
    return folder


@pytest.fixture
def local(house: Policy, sockets: Path, start_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    """A daemon that leaves nothing there."""
    daemon = start_daemon(env={"TMPDIR": str(sockets)})
    yield daemon
    poll(lambda: not list(sockets.iterdir()), "no socket is left")


# ---- X11


class XServer:
    """Takes connections on a display of 127.0.0.1. Each sends how much it will draw, and gets it back painted; none may
    close only one side, as OpenSSH takes the end of one for the end of both."""

    def __init__(self) -> None:
        for self.number in range(700, 1700):
            try:
                self.listener = socket.create_server(("127.0.0.1", 6000 + self.number))
                break
            except OSError:
                continue
        self.seen: list[bytes] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client, client.makefile("rb") as reader:
                setup = reader.read(12)
                for size in (setup[6:8], setup[8:10]):
                    setup += reader.read((int.from_bytes(size, "little") + 3) // 4 * 4)
                if len(setup) < 12:
                    continue
                client.sendall(b"\1")
                drawn = reader.read(int.from_bytes(reader.read(4), "big"))
                self.seen.append(setup)
                client.sendall(b"painted" + drawn)
                reader.read(1)  # its end

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(PATIENCE_S)


@pytest.fixture
def x_server() -> Iterator[XServer]:
    server = XServer()
    yield server
    server.close()


def x_options(server: XServer) -> dict[str, Any]:
    return {
        "options": ("-Y", "-o", "XAuthLocation=/nonexistent"),
        "env": {"DISPLAY": f"127.0.0.1:{server.number}"},
    }


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_x11_with_openssh(house: Policy, local: Daemon, connect_ssh: Any, x_server: XServer, size: int) -> None:
    """The program sees a cookie that opens nothing but this; ssh puts the real one in its place."""
    house.on.ExecRequested = python(X_CLIENT, str(size))
    result = connect_ssh(local).run("x", **x_options(x_server))
    assert result.status == 0, result
    length, word, shown = result.out.decode().split()
    (seen,) = x_server.seen
    assert (int(length), word) == (7 + size, "painted")
    assert seen[:12] == b"l\0\x0b\0\0\0\x12\0\x10\0\0\0" and seen[12:30] == b"MIT-MAGIC-COOKIE-1"
    assert shown == house.wait_for("X11Requested").x11.auth_cookie
    assert local.wait_event("channel_open", kind="x11")["outcome"] == "accepted"


def test_x11_with_a_wrong_cookie(house: Policy, local: Daemon, connect_ssh: Any, x_server: XServer) -> None:
    """Any local user can reach the port: what he shows there is the client's to refuse."""
    house.on.ExecRequested = python(X_CLIENT.replace("found[0][4]", "bytes(16)"), "1")
    result = connect_ssh(local).run("x", **x_options(x_server))
    assert result.out.split()[0] == b"0" and not x_server.seen, result


def test_xauth_reads_the_file(house: Policy, local: Daemon, raw: Raw) -> None:
    if not shutil.which("xauth"):
        pytest.skip("xauth is not installed")
    house.on.ExecRequested = process("/bin/sh", "-c", 'xauth -f "$XAUTHORITY" list; echo $DISPLAY')
    client = raw(port=local.port).login()
    number = client.open()
    assert client.request(number, "x11-req", boolean(False) + X11_REQUEST)
    assert client.request(number, "exec", string("x"))
    out = read_to_close(client)
    records, display = out.decode().rsplit("\n", 2)[:2]
    name = display.removeprefix("localhost:").removesuffix(".0")
    assert f"{socket.gethostname()}/unix:{name}  MIT-MAGIC-COOKIE-1  {COOKIE}" in records, out
    assert f"#ffff##:{name}  MIT-MAGIC-COOKIE-1  {COOKIE}" in records, out


def read_to_close(client: RawClient) -> bytes:
    out = b""
    while (message := client.until(94, 97)).type == 94:
        message.u32()
        out += message.string()
    return out


X_KNOCK = "import os, socket, time; port = 6000 + int(os.environ['DISPLAY'].split(':')[1].split('.')[0])\n"


@pytest.mark.parametrize("single, count", [(True, 1), (False, 3)])
def test_x11_single_connection(house: Policy, local: Daemon, raw: Raw, single: bool, count: int) -> None:
    script = X_KNOCK + (
        "got = 0\n"
        "for _ in range(3):\n"
        "    try:\n"
        "        x = socket.create_connection(('127.0.0.1', port))\n"
        "        got += x.recv(1) == b'!'\n"
        "    except OSError:\n"
        "        pass\n"
        "print(got)"
    )
    house.on.ExecRequested = python(script)
    client = raw(port=local.port).login()
    number = client.open(channel=9)
    assert client.request(number, "x11-req", boolean(single) + X11_REQUEST)
    assert client.request(number, "exec", string("x"))
    opened, out = 0, b""
    while (message := client.until(90, 94, 97)).type != 97:
        if message.type == 90:
            assert message.string() == b"x11"
            channel = message.u32()
            message.u32(), message.u32()
            assert message.string() == b"127.0.0.1" and message.u32() > 0
            client.send(bytes([91]) + u32(channel) + u32(20 + opened) + u32(1 << 20) + u32(1 << 15))
            client.data(channel, b"!")
            opened += 1
        elif message.u32() == 9:
            out += message.string()
    assert (opened, out) == (count, b"%d\n" % count)


def test_x11_with_paramiko(house: Policy, local: Daemon, host_key: Key) -> None:
    house.on.ExecRequested = python(X_CLIENT, "1000")
    transport = paramiko.Transport(("127.0.0.1", local.port))
    try:
        transport.connect(username="alice")
        transport.auth_none("alice")
        session = transport.open_session()
        taken: list[paramiko.Channel] = []
        session.request_x11(handler=lambda channel, _: taken.append(channel))
        session.exec_command("x")
        poll(lambda: taken, "an x11 channel")
        data = b""
        while len(data) < 48:
            data += taken[0].recv(65536)
        taken[0].sendall(b"\1")
        while len(data) < 48 + 4 + 1000:
            data += taken[0].recv(65536)
        taken[0].sendall(b"painted")
        taken[0].close()
        assert session.makefile().read().split()[:2] == [b"7", b"painted"]
    finally:
        transport.close()


def test_x11_with_asyncssh(house: Policy, local: Daemon, x_server: XServer, work: Path) -> None:
    house.on.ExecRequested = python(X_CLIENT, "1000")

    async def main() -> Any:
        async with asyncssh.connect(
            "127.0.0.1", local.port, username="alice", known_hosts=None, client_keys=None, config=None, agent_path=None
        ) as connection:
            display = f"127.0.0.1:{x_server.number}"
            return await connection.run("x", x11_forwarding="ignore_failure", x11_display=display, x11_auth_path=str(work / "none"))

    result = asyncio.run(asyncio.wait_for(main(), PATIENCE_S))
    assert result.stdout.split()[:2] == ["1007", "painted"], result.stderr


# ---- the agent


@pytest.fixture
def agent(work: Path, user_key: Key) -> Iterator[dict[str, str]]:
    """An ssh-agent that holds the user's key; its environment."""
    path = str(work / "agent.sock")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        poll(lambda: os.path.exists(path), "the agent")
        env = {"SSH_AUTH_SOCK": path}
        subprocess.run(["ssh-add", "-q", str(user_key.path)], env=clean_env(env), check=True, capture_output=True)
        yield env
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


AGENT_OPTIONS = ("-A", "-o", "IdentityAgent=SSH_AUTH_SOCK")


def test_agent_with_openssh(house: Policy, local: Daemon, connect_ssh: Any, agent: dict[str, str], user_key: Key) -> None:
    house.on.ExecRequested = process("/bin/sh", "-c", "ssh-add -L; ssh-add -T %s; stat -c '%%a %%U' $SSH_AUTH_SOCK" % (str(user_key.path) + ".pub"))
    result = connect_ssh(local).run("x", options=AGENT_OPTIONS, env=agent)
    lines = result.out.decode().splitlines()
    assert lines[0].split()[1] == user_key.public.split()[1], result
    assert lines[-1] == f"600 {ME}"
    assert local.wait_event("channel_open", kind="auth-agent@openssh.com")["outcome"] == "accepted"


def test_agent_with_asyncssh(house: Policy, local: Daemon, agent: dict[str, str], user_key: Key) -> None:
    house.on.ExecRequested = process("/usr/bin/ssh-add", "-L")

    async def main() -> Any:
        async with asyncssh.connect(
            "127.0.0.1", local.port, username="alice", known_hosts=None, client_keys=None, config=None,
            agent_path=agent["SSH_AUTH_SOCK"], agent_forwarding=agent["SSH_AUTH_SOCK"],
        ) as connection:  # fmt: skip
            return await connection.run("x")

    result = asyncio.run(asyncio.wait_for(main(), PATIENCE_S))
    assert result.stdout.split()[1] == user_key.public.split()[1]


def test_agent_with_paramiko(house: Policy, local: Daemon, agent: dict[str, str], user_key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", agent["SSH_AUTH_SOCK"])
    house.on.ExecRequested = process("/usr/bin/ssh-add", "-L")
    client = paramiko.Transport(("127.0.0.1", local.port))
    try:
        client.connect(username="alice")
        client.auth_none("alice")
        session = client.open_session()
        handler = paramiko.agent.AgentRequestHandler(session)
        session.exec_command("x")
        assert session.makefile().read().split()[1].decode() == user_key.public.split()[1]
        handler.close()
    finally:
        client.close()


def test_many_agent_connections(house: Policy, local: Daemon, connect_ssh: Any, agent: dict[str, str]) -> None:
    """At once, and one after the other: each has its channel, all are given back."""
    house.on.ExecRequested = process("/bin/sh", "-c", "for i in $(seq 20); do ssh-add -l & done; wait; for i in $(seq 20); do ssh-add -l; done")
    result = connect_ssh(local).run("x", options=AGENT_OPTIONS, env=agent)
    assert result.status == 0 and result.out.count(b"ED25519") == 40, result
    assert len(local.events("channel_open", kind="auth-agent@openssh.com")) == 40


def test_a_client_that_never_answers(house: Policy, local: Daemon, raw: Raw) -> None:
    """It holds up nobody: neither its own sessions nor the daemon's end."""
    script = "import os, socket\ns = [socket.socket(socket.AF_UNIX) for _ in range(50)]\nfor x in s: x.connect(os.environ['SSH_AUTH_SOCK'])\nprint('up', flush=True)\ninput()"
    house.on.ExecRequested = python(script)
    client = raw(port=local.port).login()
    number = client.open()
    assert client.request(number, "auth-agent-req@openssh.com")
    client.send(client.request_message(number, "exec", string("x")))
    offered = 0
    seen = b""
    while offered < 50 or b"up" not in seen:
        message = client.until(90, 94)
        if message.type == 90:
            offered += 1
        else:
            message.u32()
            seen += message.string()
    client.data(number, b"\n")
    read_to_close(client)
    house.on.ExecRequested = process("/bin/echo", "still here")
    client.close_channel(number)
    number = client.open(channel=1)
    assert client.request(number, "exec", string("x"))
    assert read_to_close(client) == b"still here\n"


# ---- who may use it


OTHER = "nobody"


@pytest.mark.skipif(os.geteuid() != 0, reason="another user takes root")
def test_another_user_has_sockets_of_his_own(house: Policy, local: Daemon, connect_ssh: Any, agent: dict[str, str], x_server: XServer) -> None:
    how = x_options(x_server)
    script = "id -un; ssh-add -l; stat -c '%a %U' $SSH_AUTH_SOCK $XAUTHORITY $(dirname $SSH_AUTH_SOCK) $(dirname $XAUTHORITY)"
    house.on.ExecRequested = process("/bin/sh", "-c", script, user=OTHER)
    result = connect_ssh(local).run("x", options=(*how["options"], *AGENT_OPTIONS), env=agent | how["env"])
    lines = result.out.decode().splitlines()
    assert lines[0] == OTHER and "ED25519" in lines[1], result
    assert lines[2:] == [f"600 {OTHER}"] * 2 + [f"700 {OTHER}"] * 2


def test_refused_forwarding_has_no_socket(house: Policy, local: Daemon, connect_ssh: Any, agent: dict[str, str], x_server: XServer) -> None:
    how = x_options(x_server)
    house.on.ConnectionMade = pb.ConnectionMadeAnswer(
        allow=allow(restrictions=pb.Restrictions(no_x11_forwarding=True, no_agent_forwarding=True))
    )
    house.on.ExecRequested = process("/usr/bin/env")
    result = connect_ssh(local).run("x", options=(*how["options"], *AGENT_OPTIONS), env=agent | how["env"])
    assert result.status == 0 and not [line for line in result.out.split() if line.startswith((b"DISPLAY", b"XAUTH", b"SSH_AUTH"))], result


def test_an_unknown_user_gets_nothing(house: Policy, local: Daemon, raw: Raw) -> None:
    house.on.ExecRequested = process("/usr/bin/env", user="no-such-user-here")
    client = raw(port=local.port).login()
    number = client.open()
    assert client.request(number, "auth-agent-req@openssh.com")
    client.request(number, "exec", string("x"))
    assert local.wait_event("forward_failed")["why"] == "the user is not known"


# ---- the end


def test_sockets_end_with_their_session(house: Policy, local: Daemon, raw: Raw, sockets: Path) -> None:
    house.on.ExecRequested = process("/bin/cat")
    client = raw(port=local.port).login()
    number = client.open()
    assert client.request(number, "auth-agent-req@openssh.com") and client.request(number, "x11-req", boolean(False) + X11_REQUEST)
    assert client.request(number, "exec", string("x"))
    assert len(list(sockets.iterdir())) == 2
    client.close_channel(number)
    client.expect(97)
    poll(lambda: not list(sockets.iterdir()), "no socket is left")


@pytest.mark.parametrize("how", ["client", "daemon"])
def test_sockets_end_with_their_connection(
    house: Policy, sockets: Path, start_daemon: Callable[..., Daemon], raw: Raw, how: str
) -> None:
    daemon = start_daemon(env={"TMPDIR": str(sockets)})
    house.on.ExecRequested = process("/bin/cat")
    client = raw(port=daemon.port).login()
    number = client.open()
    assert client.request(number, "auth-agent-req@openssh.com") and client.request(number, "x11-req", boolean(False) + X11_REQUEST)
    assert client.request(number, "exec", string("x"))
    assert len(list(sockets.iterdir())) == 2
    if how == "client":
        client.close()
    else:
        daemon.stop()
    poll(lambda: not list(sockets.iterdir()), "no socket is left")
