"""parley.sftp: the protocol, the folder that nothing leads out of, and the stock sftp client against the example."""

import asyncio
import os
import struct
import subprocess
from pathlib import Path

import pytest

import parley
from client import run
from parley import sftp
from parley.sftp import Folder, ProtocolError, Server, string
from test_examples import example
from test_with_daemon import asyncssh, connect, daemon, pytestmark as needs_daemon

NO_ATTRIBUTES = struct.pack(">I", 0)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    (folder / "sub").mkdir(parents=True)
    (folder / "hello").write_bytes(b"hello, world")
    (tmp_path / "secret").write_bytes(b"not yours")
    (folder / "leak").symlink_to("../secret")
    (folder / "up").symlink_to("..")
    return folder


class Client:
    """Requests straight into a Server."""

    def __init__(self, folder, **how):
        self.server = Server(Folder(str(folder), **how))

    def ask(self, kind, *parts):
        answer = self.server.answer(bytes([kind]) + struct.pack(">I", 7) + b"".join(parts))
        assert answer[1:5] == struct.pack(">I", 7)
        return answer[0], answer[5:]

    def status(self, kind, *parts):
        reply, body = self.ask(kind, *parts)
        assert reply == sftp.STATUS, (reply, body)
        return struct.unpack(">I", body[:4])[0]

    def open(self, path, flags=1):
        reply, body = self.ask(sftp.OPEN, string(path), struct.pack(">I", flags), NO_ATTRIBUTES)
        assert reply == sftp.HANDLE, body
        return body


@pytest.fixture
def client(root):
    return Client(root)


@pytest.mark.parametrize(
    "path, expected",
    [
        (b"", b"/"),
        (b".", b"/"),
        (b"../../etc/passwd", b"/etc/passwd"),
        (b"/a/./b//../c/", b"/a/c"),
    ],
)
def test_normalize(path, expected):
    assert sftp.normalize(path) == expected


def test_version(client):
    answer = client.server.answer(bytes([sftp.INIT]) + struct.pack(">I", 3))
    assert answer[:5] == struct.pack(">BI", sftp.VERSION, 3) and b"posix-rename" in answer


def test_read(client):
    handle = client.open(b"/hello")
    reply, body = client.ask(sftp.READ, handle, struct.pack(">QI", 7, 100))
    assert (reply, body) == (sftp.DATA, string(b"world"))
    assert client.status(sftp.READ, handle, struct.pack(">QI", 12, 1)) == sftp.EOF
    assert client.status(sftp.READ, handle, struct.pack(">QI", 2**64 - 1, 1)) == sftp.EOF
    assert client.status(sftp.READ, string(b"none"), struct.pack(">QI", 0, 1)) == sftp.FAILURE
    assert client.status(sftp.CLOSE, handle) == sftp.OK
    assert client.status(sftp.CLOSE, handle) == sftp.FAILURE


def test_write(client, root):
    handle = client.open(b"/sub/new", 2 | 8 | 16)
    assert client.status(sftp.WRITE, handle, struct.pack(">Q", 3), string(b"def")) == sftp.OK
    assert client.status(sftp.WRITE, handle, struct.pack(">Q", 0), string(b"abc")) == sftp.OK
    assert (
        client.status(sftp.WRITE, handle, struct.pack(">Q", 2**64 - 1), string(b"x"))
        == sftp.FAILURE
    )
    assert (root / "sub" / "new").read_bytes() == b"abcdef"


@pytest.mark.parametrize(
    "path", [b"/leak", b"/up/secret", b"/../secret", b"up/root/../secret", b"/sub/../../secret"]
)
def test_nothing_leads_out(client, path):
    for flags in (1, 2, 2 | 8, 2 | 8 | 16):
        reply, body = client.ask(sftp.OPEN, string(path), struct.pack(">I", flags), NO_ATTRIBUTES)
        if reply == sftp.HANDLE:  # "/secret" below the root, made just now; never the one outside
            assert path != b"/leak" and flags & 8
            client.server.files.remove(path)
    assert client.status(sftp.OPENDIR, string(b"/up")) != sftp.OK
    assert client.status(sftp.REMOVE, string(b"/up/secret")) != sftp.OK
    assert client.status(sftp.MKDIR, string(b"/up/made"), NO_ATTRIBUTES) != sftp.OK
    assert client.status(sftp.SETSTAT, string(b"/leak"), struct.pack(">II", 4, 0o777)) != sftp.OK


def test_outside_is_untouched(client, root, tmp_path):
    test_nothing_leads_out(client, b"/leak")
    assert (tmp_path / "secret").read_bytes() == b"not yours"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["root", "secret"]


def test_folder_shows_itself_only(client, root):
    reply, handle = client.ask(sftp.OPENDIR, string(b"/"))
    assert reply == sftp.HANDLE
    reply, body = client.ask(sftp.READDIR, handle)
    assert reply == sftp.NAME and struct.unpack(">I", body[:4])[0] == 6  # ".", "..", four entries
    assert client.status(sftp.READDIR, handle) == sftp.EOF


def test_rename(client, root):
    (root / "other").write_bytes(b"other")
    assert client.status(sftp.RENAME, string(b"/hello"), string(b"/other")) == sftp.FAILURE
    assert client.status(sftp.RENAME, string(b"/hello"), string(b"/sub/hello")) == sftp.OK
    assert client.status(sftp.RENAME, string(b"/sub"), string(b"/moved")) == sftp.OK
    replace = string(b"posix-rename@openssh.com")
    assert (
        client.status(sftp.EXTENDED, replace, string(b"/other"), string(b"/moved/hello")) == sftp.OK
    )
    assert (root / "moved" / "hello").read_bytes() == b"other"


def test_attributes(client, root):
    assert (
        client.status(sftp.SETSTAT, string(b"/hello"), struct.pack(">IQI", 5, 5, 0o4640)) == sftp.OK
    )
    info = (root / "hello").stat()
    assert (info.st_size, info.st_mode & 0o7777) == (5, 0o640)
    assert (
        client.status(sftp.SETSTAT, string(b"/hello"), struct.pack(">III", 2, 0, 0))
        == sftp.PERMISSION_DENIED
    )


def test_read_only(root):
    client = Client(root, writable=False)
    handle = client.open(b"/hello")
    for kind, *parts in (
        (sftp.OPEN, string(b"/hello"), struct.pack(">I", 2), NO_ATTRIBUTES),
        (sftp.OPEN, string(b"/new"), struct.pack(">I", 1 | 8), NO_ATTRIBUTES),
        (sftp.OPEN, string(b"/hello"), struct.pack(">I", 1 | 16), NO_ATTRIBUTES),
        (sftp.WRITE, handle, struct.pack(">Q", 0), string(b"x")),
        (sftp.FSETSTAT, handle, struct.pack(">II", 4, 0o777)),
        (sftp.SETSTAT, string(b"/hello"), struct.pack(">II", 4, 0o777)),
        (sftp.REMOVE, string(b"/hello")),
        (sftp.RMDIR, string(b"/sub")),
        (sftp.MKDIR, string(b"/new"), NO_ATTRIBUTES),
        (sftp.RENAME, string(b"/hello"), string(b"/new")),
    ):
        assert client.status(kind, *parts) == sftp.PERMISSION_DENIED
    assert (root / "hello").read_bytes() == b"hello, world" and not (root / "new").exists()


def test_bounds(client):
    for _ in range(sftp.HANDLES_MAX):
        client.open(b"/hello")
    assert client.status(sftp.OPENDIR, string(b"/")) == sftp.FAILURE
    client.server.close()
    client.open(b"/hello")


@pytest.mark.parametrize(
    "packet", [b"", b"\x03", b"\x03\0\0\0\1\0\0\0\5ab", b"\x05\0\0\0\1\xff\xff\xff\xff"]
)
def test_short_packets(client, packet):
    with pytest.raises(ProtocolError):
        client.server.answer(packet)


def test_unknown_request(client):
    assert client.status(99) == sftp.UNSUPPORTED
    assert client.status(sftp.EXTENDED, string(b"nonsense@example.com")) == sftp.UNSUPPORTED


@pytest.mark.parametrize("data", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x01\x03"])
def test_garbage_ends_the_session(root, data):
    async def scenario(policy):
        stream = await policy.open(subsystem=parley.channel_pb2.SubsystemProgram(name=b"sftp"))
        await stream.data(data)
        _, err, others = await stream.rest()
        assert err.startswith(b"sftp: a packet") and others[-1].exit_status.status == 1

    run(example("sftp_server").FileServer(str(root)), scenario)


@needs_daemon
def test_stock_sftp(root, tmp_path):
    big = os.urandom(3_000_000)
    (tmp_path / "big").write_bytes(big)
    batch = f"""
put {tmp_path}/big up.bin
get up.bin {tmp_path}/back
mkdir made
put -p {tmp_path}/big made/again
rename made/again made/moved
chmod 600 made/moved
ls -la made
rm up.bin
-get leak {tmp_path}/stolen
-get ../secret {tmp_path}/stolen
ls /
"""

    async def play():
        async with daemon(tmp_path, "sftp_server.py", str(root)) as port:
            process = await asyncio.create_subprocess_exec(
                *("sftp", "-P", str(port), "-F", "none", "-o", "BatchMode=no", "-b", "-"),
                *("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path}/known"),
                *("-o", "PubkeyAuthentication=no", "-o", "LogLevel=ERROR", "alice@127.0.0.1"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"},
            )
            out, _ = await asyncio.wait_for(process.communicate(batch.encode()), 60)
            assert process.returncode == 0, out
            async with connect(port, "alice", password="files", client_keys=None) as client:
                with pytest.raises(asyncssh.ChannelOpenError):
                    await client.run("id")
            return out

    askpass = tmp_path / "askpass"
    askpass.write_text("#!/bin/sh\necho files\n")
    askpass.chmod(0o700)
    out = asyncio.run(play())
    assert (tmp_path / "back").read_bytes() == big
    assert (root / "made" / "moved").read_bytes() == big
    assert (root / "made" / "moved").stat().st_mode & 0o777 == 0o600
    assert not (root / "up.bin").exists() and not (tmp_path / "stolen").exists()
    assert b"moved" in out and b"hello" in out
