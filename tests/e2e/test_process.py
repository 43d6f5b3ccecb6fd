"""ProcessEndpoint: a program on the daemon's machine, started exactly as the answer says."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from harness.answers import PATH, accept, grant, not_required, process, process_house
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon
from harness.policy import Policy

IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root runs programs as somebody else")


def execute(policy: Policy, answer: object) -> None:
    """Every command is answered so."""
    policy.on.BeginAuth = not_required()
    policy.on.SessionRequested = accept()
    policy.on.ExecRequested = answer


# ---- input, output, end


def test_input_output_and_errors_are_three(policy: Policy, ssh: OpenSsh) -> None:
    process_house(policy)
    result = ssh.run("cat; echo to stderr >&2; exit 3", stdin=b"from stdin\n")
    assert (result.status, result.out, result.err) == (3, b"from stdin\n", "to stderr\n"), result


@pytest.mark.parametrize("status", [0, 1, 42, 127, 255])
def test_exit_status(policy: Policy, ssh: OpenSsh, status: int) -> None:
    process_house(policy)
    assert ssh.run(f"exit {status}").status == status


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "HUP", "USR1", "ABRT"])
def test_exit_signal(policy: Policy, raw, name: str) -> None:
    process_house(policy)
    client = raw().login()
    client.execute(f"kill -{name} $$")
    request = client.until(98)
    assert (request.u32(), request.string(), request.boolean(), request.string()) == (0, b"exit-signal", False, name.encode())
    request.boolean()
    assert request.string() != b""  # in words


def test_an_exit_signal_without_a_name_of_its_own(policy: Policy, raw) -> None:
    process_house(policy)
    client = raw().login()
    client.execute("kill -BUS $$")
    request = client.until(98)
    request.u32(), request.string(), request.boolean()
    assert request.string() == b"SIG@openssh.com"


def test_no_argument_is_changed(policy: Policy, ssh: OpenSsh) -> None:
    """Bytes as they are, and no shell looks at them."""
    words = [b"a b", b"", b"$HOME", b"*", b"\xff\xfe", b"'\"`;", b"-n", b"\n"]
    execute(policy, process("/usr/bin/printf", b"<%s>", *words))
    result = ssh.run("ignored; rm -rf /nowhere")
    assert result.out == b"".join(b"<%s>" % word for word in words), result


def test_a_command_byte_for_byte(policy: Policy, raw) -> None:
    policy.on.ExecRequested = lambda request, _: process("/usr/bin/printf", "%s", request.command)
    policy.on.BeginAuth = not_required()
    policy.on.SessionRequested = accept()
    client = raw().login()
    command = b" \xff\xfe a\n\t'\"$(x) \xc3\xa9 "
    client.execute(command)
    data = client.until(94)
    data.u32()
    assert data.string() == command


def test_half_close(policy: Policy, ssh: OpenSsh) -> None:
    """The end of input arrives, and output goes on after it."""
    process_house(policy)
    result = ssh.run("sort; echo end", stdin=b"c\nb\na\n")
    assert (result.status, result.out) == (0, b"a\nb\nc\nend\n"), result


def test_output_ends_before_the_program(policy: Policy, ssh: OpenSsh, work: Path) -> None:
    """It closed its output: the client sees the end of file, then the status when there is one."""
    process_house(policy)
    client = ssh.popen(f"exec >&- 2>&-; cat >/dev/null; echo done > {work}/mark; exit 5")
    assert client.stdout.read() == b""
    assert not (work / "mark").exists()
    client.stdin.close()
    assert client.wait(60) == 5
    assert (work / "mark").exists()


def test_a_program_that_does_not_read_is_told_of(policy: Policy, ssh: OpenSsh) -> None:
    """eow@openssh.com: the client stops sending, as `cat big | ssh host head` needs."""
    process_house(policy)
    client = ssh.popen("head -c 5; exec <&-; sleep 0.2; echo; echo over", stdin=-1)
    with pytest.raises(BrokenPipeError):
        for _ in range(1 << 16):
            client.stdin.write(b"x" * 65536)
    assert client.stdout.read() == b"xxxxx\nover\n"
    assert client.wait(60) == 0


# ---- what it is given


def test_the_environment_is_complete(policy: Policy, ssh: OpenSsh) -> None:
    """Nothing of the daemon's, nothing of the client's."""
    policy.on.EnvRequested = grant()
    execute(policy, process("/usr/bin/env", env={"ONE": "1", "TWO": b"\xff=\n2", "EMPTY": ""}))
    result = ssh.run("x", options=("-o", "SetEnv=CLIENTS=own LANG=C"), env={"SECRET": "daemon's"})
    assert result.out == b"ONE=1\nTWO=\xff=\n2\nEMPTY=\n", result


def test_an_empty_environment(policy: Policy, ssh: OpenSsh) -> None:
    execute(policy, process("/usr/bin/env"))
    assert ssh.run("x", options=("-o", "SetEnv=LANG=C")).out == b""


def test_what_was_allowed_is_kept_if_the_answer_says_so(policy: Policy, ssh: OpenSsh) -> None:
    """TERM and what EnvRequested let through; the answer's own variables are not the client's to change."""
    policy.on.EnvRequested = lambda request, _: (
        grant() if request.variable.name != b"LD_PRELOAD" else pb.GrantAnswer(deny=pb.Deny())
    )
    execute(policy, process("/usr/bin/env", env={"MINE": "policy"}, keep_environment=True))
    terminal = ssh.run("x", options=("-tt", "-o", "SetEnv=MINE=client THEIRS=client LD_PRELOAD=/evil.so TERM=fake"))
    assert terminal.out.split(b"\r\n") == [b"MINE=policy", b"TERM=fake", b"THEIRS=client", b""], terminal


def test_ld_preload_does_not_reach_it_by_default(policy: Policy, ssh: OpenSsh) -> None:
    """EnvRequested's default lets only TERM and the locale through."""
    execute(policy, process("/usr/bin/env", keep_environment=True))
    result = ssh.run("x", options=("-o", "SetEnv=LD_PRELOAD=/evil.so BASH_ENV=/evil LC_ALL=C"))
    assert result.out == b"LC_ALL=C\n", result


def test_directory(policy: Policy, ssh: OpenSsh, work: Path) -> None:
    execute(policy, process("/bin/pwd", directory=str(work).encode()))
    assert ssh.run("x").out == f"{work}\n".encode()


def test_home_is_the_default_directory(policy: Policy, ssh: OpenSsh) -> None:
    execute(policy, process("/bin/pwd", directory=b""))
    assert ssh.run("x").out == f"{os.path.realpath(pwd.getpwuid(os.geteuid()).pw_dir)}\n".encode()


def test_the_path_is_the_daemons(policy: Policy, start_daemon, connect_ssh, work: Path) -> None:
    """argv[0] without a slash: not the PATH that the program gets, never the directory it starts in."""
    (work / "bin").mkdir()
    for folder, name, text in (("bin", "ours", "right"), (".", "here", "wrong")):
        program = work / folder / name
        program.write_text(f"#!/bin/sh\necho {text} $PATH\n")
        program.chmod(0o755)
    daemon = start_daemon(env={"PATH": f".::{work}/bin:/usr/bin:/bin"})
    ssh = connect_ssh(daemon)
    execute(policy, process("ours", env={"PATH": "/elsewhere"}, directory=str(work).encode()))
    assert ssh.run("x").out == b"right /elsewhere\n"
    execute(policy, process("here", env=PATH, directory=str(work).encode()))
    assert ssh.run("x").status == 127


@pytest.mark.parametrize("pty", [False, True])
def test_a_process_of_its_own(policy: Policy, daemon: Daemon, ssh: OpenSsh, pty: bool) -> None:
    """A session, a group, default signals, no descriptor but its own, no way to more rights, a usual umask."""
    process_house(policy)
    result = ssh.run(
        "cat /proc/self/stat; grep -e SigBlk -e SigIgn -e NoNewPrivs /proc/self/status; umask; ulimit -n; ls /proc/self/fd",
        options=("-tt",) if pty else (),
    )
    lines = result.out.decode().replace("\r", "").splitlines()
    fields = lines[0].rpartition(")")[2].split()
    parent, group, session, terminal = (int(field) for field in fields[1:5])
    assert parent == group == session and (terminal != 0) == pty
    facts = dict(line.split(":\t") for line in lines[1:4])
    assert int(facts["SigBlk"], 16) == 0 and facts["NoNewPrivs"] == "1"
    assert int(facts["SigIgn"], 16) & 0x7FFFFFFF == 0
    assert lines[4] == "0022"
    assert int(lines[5]) <= 1024
    assert " ".join(lines[6:]).split() == ["0", "1", "2", "3"]  # the last is the directory that ls reads


@needs_root
def test_user_and_groups(policy: Policy, ssh: OpenSsh) -> None:
    process_house(policy, user="nobody")
    nobody = pwd.getpwnam("nobody")
    command = "id -u; id -ru; id -g; id -G; cat /proc/self/loginuid >/dev/null; echo x | cat /dev/stdin; echo y > /dev/stderr"
    result = ssh.run(command)
    groups = os.getgrouplist("nobody", nobody.pw_gid)
    assert result.out.decode() == f"{nobody.pw_uid}\n{nobody.pw_uid}\n{nobody.pw_gid}\n{' '.join(map(str, groups))}\nx\n", result
    assert result.err == "y\n"
    execute(policy, process("/usr/bin/id", "-G", "-n", user="nobody", groups=["daemon", "mail"]))
    assert ssh.run("x").out == b"daemon mail\n"
    execute(policy, process("/usr/bin/stat", "-c", "%U %G %a", "/dev/stdin", "-L", user="nobody"))
    terminal = ssh.run("x", options=("-tt",))
    assert terminal.out == b"nobody tty 620\r\n", terminal


@needs_root
def test_there_is_no_way_back_to_root(policy: Policy, ssh: OpenSsh) -> None:
    execute(policy, process("/bin/cat", "/proc/self/status", user="nobody"))
    facts = dict(line.split(":\t", 1) for line in ssh.run("x").out.decode().splitlines())
    uid = str(pwd.getpwnam("nobody").pw_uid)
    assert facts["Uid"].split() == [uid] * 4
    assert int(facts["CapPrm"], 16) == int(facts["CapEff"], 16) == 0


@needs_root
def test_root_is_never_meant_by_silence(policy: Policy, raw) -> None:
    """Refused with the session already, and with the program."""
    execute(policy, process("/usr/bin/id", user=""))
    client = raw().login()
    number = client.open()
    assert not client.request(number, "exec", b"\0\0\0\1x")
    assert client.told == ["this server runs no program as root unless the policy names the user\r\n"]
    policy.on.SessionRequested = process("/usr/bin/id", user="")
    client.send(client.open_message(channel=1))
    failure = client.expect(92)
    assert (failure.u32(), failure.u32()) == (1, 1)
    assert b"as root" in failure.string()


@pytest.mark.skipif(IS_ROOT, reason="root may become anybody")
def test_somebody_else_needs_root(policy: Policy, ssh: OpenSsh) -> None:
    execute(policy, process("/usr/bin/id", user="root"))
    result = ssh.run("x")
    assert result.status == 126 and "may not run programs as that user" in result.err, result


def test_limits(policy: Policy, ssh: OpenSsh) -> None:
    execute(policy, process("/bin/sh", "-c", "ulimit -v", env=PATH, max_memory_bytes=1 << 30))
    assert ssh.run("x").out == b"1048576\n"
    execute(policy, process("/bin/bash", "-c", "ulimit -u; ulimit -H -u", env=PATH, max_processes=77))
    assert ssh.run("x").out == b"77\n77\n"


def test_memory_is_limited(policy: Policy, ssh: OpenSsh) -> None:
    execute(policy, process("/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1", max_memory_bytes=1 << 27))
    result = ssh.run("x")
    assert result.status == 1 and "memory" in result.err, result


@needs_root
def test_processes_are_limited(policy: Policy, ssh: OpenSsh) -> None:
    execute(policy, process("/bin/sh", "-c", "true & true & true & true & wait; echo unlimited", env=PATH, user="nobody", max_processes=1))
    result = ssh.run("x")
    assert result.status != 0 and b"unlimited" not in result.out, result


# ---- what cannot be


@pytest.mark.parametrize(
    "answer,status,words",
    [
        (process("/no/such/program"), 127, "/no/such/program: No such file"),
        (process("no-such-program"), 127, "no-such-program: No such file"),
        (process("/etc/passwd"), 126, "/etc/passwd: Permission denied"),
        (process("/"), 126, "/: Permission denied"),
        (process("/bin/true", directory=b"/no/such/directory"), 126, "directory /no/such/directory: No such file"),
        (process("/bin/true", user="no-such-user"), 126, 'there is no user "no-such-user"'),
        (process("/bin/true", groups=["no-such-group"]), 126, 'there is no group "no-such-group"'),
    ],
)
def test_what_cannot_be_started_is_told_in_words(
    policy: Policy, daemon: Daemon, ssh: OpenSsh, answer: object, status: int, words: str
) -> None:
    execute(policy, answer)
    result = ssh.run("x")
    assert result.status == status and words in result.err, result
    assert daemon.wait_event("process_failed")["why"].startswith(words[:20])


def test_no_shell_is_asked_about_what_is_no_program(policy: Policy, ssh: OpenSsh, work: Path) -> None:
    script = work / "script"
    script.write_text("echo a shell ran this\n")
    script.chmod(0o755)
    execute(policy, process(str(script)))
    result = ssh.run("x")
    assert (result.status, result.out) == (126, b""), result


@pytest.mark.parametrize(
    "answer",
    [
        pb.SessionAnswer(process=pb.ProcessEndpoint(user="nobody")),
        process(""),
        process("/bin/echo\0", "x"),
        process("/bin/echo", "x\0y"),
        process("/bin/echo", directory=b"/tmp\0/x"),
        process("/bin/echo", env={"A=B": "x"}),
        process("/bin/echo", env={"": "x"}),
        process("/bin/echo", env={"A": "x\0y"}),
    ],
)
def test_a_malformed_answer_refuses(policy: Policy, raw, answer: object) -> None:
    execute(policy, answer)
    client = raw().login()
    number = client.open()
    assert not client.request(number, "exec", b"\0\0\0\1x")
    assert len(client.told) == 1


def test_chosen_with_the_session(policy: Policy, ssh: OpenSsh) -> None:
    """Whatever the client asks for is this program."""
    policy.on.BeginAuth = not_required()
    policy.on.SessionRequested = process("/bin/echo", "hello")
    for command, options in (("x", ()), (None, ()), ("sftp", ("-s",))):
        assert ssh.run(command, options=options).out == b"hello\n"
