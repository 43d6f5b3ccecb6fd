"""The README's policy and the demo, started by a real daemon and used by a real SSH client.

Needs PARLEYD (the daemon's path; `./dev test` sets it) and asyncssh; skipped without them.
"""

import asyncio
import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import parley

asyncssh = pytest.importorskip("asyncssh")

PACKAGE = Path(__file__).resolve().parent.parent
PARLEYD = os.environ.get("PARLEYD", "")

pytestmark = pytest.mark.skipif(
    not PARLEYD or shutil.which(PARLEYD) is None, reason="PARLEYD names no daemon"
)


@contextlib.asynccontextmanager
async def daemon(folder, example, *arguments):
    """Starts parleyd with that example as its policy program; its port."""
    key = folder / "host_key"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(key)
    key.chmod(0o600)
    contract = Path(list(parley.__path__)[-1]).parent
    process = await asyncio.create_subprocess_exec(
        PARLEYD,
        *("--listen", "127.0.0.1:0", "--host-key", str(key), "--workers", "1", "--penalties=off"),
        *(
            "--policy-exec",
            " ".join([sys.executable, str(PACKAGE / "examples" / example), *arguments]),
        ),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{PACKAGE}:{contract}", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    lines = []
    try:
        while True:
            line = (await asyncio.wait_for(process.stderr.readline(), 30)).decode()
            assert line, "".join(lines)
            lines.append(line)
            found = re.search(r"event=listening address=127\.0\.0\.1:(\d+)", line)
            if found:
                break
        drain = asyncio.ensure_future(process.stderr.read())  # a full pipe would stop it
        yield int(found[1])
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 20)
    await drain
    assert process.returncode == 0


def connect(port, user, **options):
    return asyncssh.connect(
        "127.0.0.1", port, username=user, known_hosts=None, config=None, agent_path=None, **options
    )


def code_now(secret):
    spec = importlib.util.spec_from_file_location("code", PACKAGE / "examples" / "one_time_code.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.code_at(secret, int(time.time()) // module.STEP_S)


class Person(asyncssh.SSHClient):
    """Answers the prompts of a keyboard-interactive dialogue."""

    def __init__(self, password, secret):
        self.password, self.secret = password, secret

    def kbdint_auth_requested(self):
        return ""

    def kbdint_challenge_received(self, name, instructions, lang, prompts):
        answers = {"Password: ": lambda: self.password, "Code: ": lambda: code_now(self.secret)}
        return [answers[text]() for text, _ in prompts]


def test_one_time_code(tmp_path):
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

    async def play():
        async with daemon(tmp_path, "one_time_code.py", f"alice:wonderland:{secret}") as port:
            with pytest.raises(asyncssh.PermissionDenied):
                person = Person("looking glass", secret)
                await connect(port, "alice", client_keys=None, client_factory=lambda: person)
            person = Person("wonderland", secret)
            options = {"client_keys": None, "client_factory": lambda: person}
            async with connect(port, "alice", **options) as client:
                assert (await client.run()).stdout == "Welcome alice.\r\n"

    asyncio.run(play())


def test_readme(tmp_path):
    async def play():
        async with daemon(tmp_path, "readme.py") as port:
            with pytest.raises(asyncssh.PermissionDenied):
                await connect(port, "alice", password="looking glass", client_keys=None)
            async with connect(port, "alice", password="wonderland", client_keys=None) as client:
                assert (await client.run("ls -l")).stdout == "You said: ls -l\n"
                shell = await client.run(input="hello\n", request_pty=False)
                assert shell.stdout == "Hello alice, type something.\r\nHELLO\n"
                assert shell.exit_status == 0

    asyncio.run(play())


def test_demo(tmp_path):
    key = asyncssh.generate_private_key("ssh-ed25519")
    keys = tmp_path / "keys"
    keys.write_bytes(key.export_public_key())

    async def play():
        async with daemon(tmp_path, "demo.py", "--keys", str(keys)) as port:
            async with connect(port, "bob", client_keys=[key]) as client:
                assert (await client.run("exit 7")).exit_status == 7
                nonsense = await client.run("nonsense")
                assert nonsense.exit_status == 127 and "no such command" in nonsense.stderr
                payload = "0123456789abcdef" * 65536
                assert (await client.run("cat", input=payload)).stdout == payload
            async with connect(port, "ann", password="demo", client_keys=None) as client:
                async with client.create_process(term_type="xterm") as process:
                    process.stdin.write("whx\x7fo\r")
                    await process.stdout.readuntil("ann ")
                    process.stdin.write("clock\r")
                    await process.stdout.readuntil(re.compile(r"\d\d:\d\d:\d\d\r\n"))
                    process.stdin.write("\x03")
                    await process.stdout.readuntil("^C\r\n")
                    process.stdin.write("\x04")
                    assert (await process.stdout.read()).endswith("Bye.\r\n")
                    assert (await process.wait()).exit_status == 130

    asyncio.run(play())


def test_jump_host(tmp_path):
    """Alice's key lets her in to the jump host only, whose own key lets her go on."""
    alice, jump, host = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(3))
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "alice").write_bytes(alice.export_public_key())
    jump.write_private_key(tmp_path / "id")

    class Server(asyncssh.SSHServer):
        def validate_public_key(self, username, key):
            return username == "deploy" and key == jump.convert_to_public()

        def public_key_auth_supported(self):
            return True

        def connection_requested(self, *_where):
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "not even here")

    def program(process):
        process.stdout.write(f"{process.get_extra_info('username')}: {process.command}\n")
        process.exit(7)

    async def play():
        options = {"server_factory": Server, "process_factory": program, "server_host_keys": [host]}
        async with asyncssh.listen("127.0.0.1", 0, **options) as server, daemon(tmp_path, "jump_host.py", str(tmp_path)) as port:
            there = server.get_port()
            public = host.export_public_key().decode()
            (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{there} {public}")
            (tmp_path / "table").write_text(f"alice web1 deploy@127.0.0.1:{there}\nalice no nobody@127.0.0.1:{there}\n")
            async with connect(port, "alice+web1", client_keys=[alice]) as client:
                result = await client.run("date")
                assert (result.stdout, result.exit_status) == ("deploy: date\n", 7)
                with pytest.raises(asyncssh.ChannelOpenError) as refused:
                    await client.open_connection("web1.example", 80)
                assert "not even here" in refused.value.reason
            async with connect(port, "alice+no", client_keys=[alice]) as client:
                result = await client.run("date")
                assert result.exit_status == 255 and "127.0.0.1" in result.stderr
            with pytest.raises(asyncssh.PermissionDenied):
                await connect(port, "bob+web1", client_keys=[alice])
            with pytest.raises(asyncssh.Error):  # she is let in, and put out again
                async with connect(port, "alice", client_keys=[alice]) as client:
                    await client.run("date")

    asyncio.run(play())


def test_shell_server(tmp_path):
    """Whoever runs the tests logs in to their own account; a key that is not listed does not."""
    me = pwd.getpwuid(os.getuid())
    (tmp_path / ".ssh").mkdir()
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(2)]
    path = tmp_path / ".ssh" / "authorized_keys"
    path.write_bytes(keys[0].export_public_key())
    path.chmod(0o600)
    wrapper = tmp_path / "policy.py"  # the example, in a home of our own
    wrapper.write_text(
        "import pwd, runpy, sys\n"
        "entry = pwd.getpwnam\n"
        f"pwd.getpwnam = lambda name: pwd.struct_passwd(entry(name)[:5] + ({str(tmp_path)!r},) + entry(name)[6:])\n"
        f"runpy.run_path({str(PACKAGE / 'examples' / 'shell_server.py')!r}, run_name='__main__')\n"
    )

    async def play():
        async with daemon(tmp_path, wrapper) as port:
            with pytest.raises(asyncssh.PermissionDenied):
                await connect(port, me.pw_name, client_keys=[keys[1]])
            async with connect(port, me.pw_name, client_keys=[keys[0]]) as client:
                result = await client.run('echo "$USER $LOGNAME $HOME"; exit 4')
                assert (result.stdout, result.exit_status) == (f"{me.pw_name} {me.pw_name} {tmp_path}\n", 4)
                result = await client.run(input="echo from-a-shell $0\n")
                assert "from-a-shell" in result.stdout and result.exit_status == 0

    asyncio.run(play())
