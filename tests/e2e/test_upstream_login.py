"""How the daemon logs in at the other server: passwords, keys of all kinds, certificates, the client's agent; and what is left of them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_ssh_private_key
from test_direct import Echo, TcpServer, dial, exchange, free_port, serving

from harness.answers import KBDINT, PASSWORD, begin, challenge, deny_grant, hop, kbdint_house, kbdint_ok, me, password_house, password_ok, say, serve, upstream_house
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon, clean_env
from harness.keys import Key, certify, make_key
from harness.policy import Policy
from harness.sshd import Sshd, host_line
from harness.wait import PATIENCE_S, poll
from harness.wire import string, u32


def refused(ssh: OpenSsh, *words: str, **how: Any) -> str:
    """The session ends with a reason."""
    result = ssh.run("echo in", **how)
    assert (result.status, result.out) == (255, b""), result
    for word in ("127.0.0.1", *words):
        assert word in result.err, result
    return result.err


# ---- passwords: another parleyd asks for them


@pytest.fixture
def far_policy(work: Path) -> Iterator[Policy]:
    with Policy(f"unix:{work}/far.sock") as far:
        yield far


@pytest.fixture
def far(far_policy: Policy, start_daemon: Any) -> Daemon:
    return start_daemon(policy=far_policy.target)


@pytest.fixture
def far_hop(far: Daemon, host_key: Key) -> Callable[..., Any]:
    return lambda **fields: hop("127.0.0.1", far.port, host_line("127.0.0.1", far.port, host_key.public), **fields)


def test_password(policy: Policy, far_policy: Policy, far_hop: Any, ssh: OpenSsh) -> None:
    password_house(far_policy, user="bob", password="päss wörd")
    serve(far_policy, say(b"in\n", status=3))
    upstream_house(policy, far_hop(user="bob", password="päss wörd"))
    result = ssh.run("x")
    assert (result.status, result.out) == (3, b"in\n"), result
    assert far_policy.wait_for("ValidatePassword").context.user == "bob"


def test_the_same_name_if_none_is_named(policy: Policy, far_policy: Policy, far_hop: Any, ssh: OpenSsh) -> None:
    password_house(far_policy)
    upstream_house(policy, far_hop(password="wonderland"))
    assert ssh.run("x", user="alice").status == 0
    refused(ssh, user="bob")


def test_a_wrong_password(policy: Policy, far_policy: Policy, far_hop: Any, ssh: OpenSsh) -> None:
    """Is tried once, and not shown."""
    password_house(far_policy)
    upstream_house(policy, far_hop(password="cAnArY"))
    assert "cAnArY" not in refused(ssh)
    assert len(far_policy.requests("ValidatePassword")) == 1


def test_a_password_that_must_be_changed(policy: Policy, far_policy: Policy, far_hop: Any, ssh: OpenSsh) -> None:
    password_house(far_policy)
    far_policy.on.ValidatePassword = pb.PasswordAnswer(change_required=pb.PasswordChange(prompt="new"))
    upstream_house(policy, far_hop(password="wonderland"))
    refused(ssh)
    assert not far_policy.requests("ChangePassword")


def test_a_server_that_does_not_take_passwords(policy: Policy, sshd: Sshd, ssh: OpenSsh) -> None:
    upstream_house(policy, sshd.hop(password="cAnArY"))
    refused(ssh)
    assert not sshd.logins()


def test_a_password_is_not_enough(policy: Policy, far_policy: Policy, far_hop: Any, ssh: OpenSsh) -> None:
    """Partial success: another factor is wanted, and we have none."""
    far_policy.on.BeginAuth = begin(PASSWORD, KBDINT, required=[pb.Methods(methods=[PASSWORD, KBDINT])])
    far_policy.on.ValidatePassword = password_ok()
    far_policy.on.GetKbdintChallenge = challenge("Code: ")
    far_policy.on.ValidateKbdintResponse = kbdint_ok()
    serve(far_policy, say(b"in\n"))
    upstream_house(policy, far_hop(password="wonderland"))
    refused(ssh)


def test_a_password_that_is_asked_for_in_a_dialogue(policy: Policy, far_policy: Policy, far_hop: Any, ssh: OpenSsh) -> None:
    """Most servers with PAM do so: one hidden question."""
    kbdint_house(far_policy, "wonderland")
    serve(far_policy, say(b"in\n"))
    upstream_house(policy, far_hop(password="wonderland"))
    assert ssh.run("x").out == b"in\n"
    upstream_house(policy, far_hop(password="looking glass"))
    refused(ssh)


@pytest.mark.parametrize("prompts", [("Name: ", "Code: "), (("Shown: ", True),)], ids=["two", "shown"])
def test_other_questions_get_no_password(policy: Policy, far_policy: Policy, far_hop: Any, ssh: OpenSsh, prompts: Any) -> None:
    far_policy.on.BeginAuth = begin(KBDINT)
    far_policy.on.GetKbdintChallenge = challenge(*prompts)
    far_policy.on.ValidateKbdintResponse = kbdint_ok()
    upstream_house(policy, far_hop(password="cAnArY"))
    refused(ssh)
    assert not far_policy.requests("ValidateKbdintResponse")


def test_a_server_that_lets_anybody_in(policy: Policy, far_policy: Policy, far_hop: Any, ssh: OpenSsh) -> None:
    far_policy.on.BeginAuth = pb.BeginAuthAnswer(requirement=pb.REQUIREMENT_NOT_REQUIRED)
    serve(far_policy, say(b"in\n"))
    upstream_house(policy, far_hop(password="whatever"))
    assert ssh.run("x").out == b"in\n"


def test_a_banner_on_the_way(policy: Policy, start_sshd: Any, ssh: OpenSsh, work: Path) -> None:
    """Whatever becomes of it, it breaks nothing and is no output of the program."""
    (work / "banner").write_text("Authorized use only\n")
    upstream_house(policy, start_sshd(f"Banner {work}/banner").hop())
    result = ssh.run("echo in")
    assert (result.status, result.out) == (0, b"in\n"), result


# ---- keys


KINDS = [("ed25519", 0), ("rsa", 2048), ("rsa", 4096), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521)]


@pytest.mark.parametrize("kind,bits", KINDS)
def test_keys(policy: Policy, start_sshd: Any, ssh: OpenSsh, work: Path, kind: str, bits: int) -> None:
    upstream_house(policy, start_sshd(user_key=make_key(work / "key", kind, bits)).hop())
    assert ssh.run("echo in").out == b"in\n"


@pytest.mark.parametrize("kind,form", [("rsa", "pem"), ("rsa", "pkcs8"), ("ecdsa", "pem"), ("ecdsa", "pkcs8")])
def test_forms_of_keys(policy: Policy, start_sshd: Any, ssh: OpenSsh, work: Path, kind: str, form: str) -> None:
    key = make_key(work / "key", kind)
    private = load_ssh_private_key(key.path.read_bytes(), None)
    how = PrivateFormat.PKCS8 if form == "pkcs8" else PrivateFormat.TraditionalOpenSSL
    text = private.private_bytes(Encoding.PEM, how, NoEncryption())
    assert b"OPENSSH" not in text
    upstream_house(policy, start_sshd(user_key=key).hop(private_key=text))
    assert ssh.run("echo in").out == b"in\n"


def test_a_wrong_key(policy: Policy, sshd: Sshd, ssh: OpenSsh, other_key: Key) -> None:
    upstream_house(policy, sshd.hop(private_key=other_key.path.read_bytes()))
    refused(ssh)
    assert not sshd.logins()


@pytest.mark.parametrize("what", ["none", "garbage", "encrypted", "public", "cut", "short rsa", "no hops", "no host", "bad port", "nine hops", "bad user", "odd address", "no known hosts"])
def test_what_cannot_work_is_refused_at_once(policy: Policy, ssh: OpenSsh, sshd: Sshd, work: Path, user_key: Key, what: str) -> None:
    """Before anybody is called."""
    key = user_key.path.read_bytes()
    if what == "encrypted":
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(work / "locked")], check=True)
        key = (work / "locked").read_bytes()
    if what == "short rsa":
        key = make_key(work / "short", "rsa", 1024).path.read_bytes()
    good = sshd.hop()
    hops = {
        "none": [hop(sshd.address, sshd.port, sshd.known_hosts, user=me())],
        "garbage": [sshd.hop(private_key=b"no key at all")],
        "encrypted": [sshd.hop(private_key=key)],
        "public": [sshd.hop(private_key=user_key.public.encode())],
        "cut": [sshd.hop(private_key=key[: len(key) // 2])],
        "short rsa": [sshd.hop(private_key=key)],
        "no hops": [],
        "no host": [hop("", sshd.port, sshd.known_hosts, password="x")],
        "bad port": [hop(sshd.address, 65536, sshd.known_hosts, password="x")],
        "nine hops": [good] * 9,
        "bad user": [sshd.hop(user="a\nb")],
        "odd address": [hop("127.1", sshd.port, f"* {sshd.host_key.public}", password="x")],
        "no known hosts": [sshd.hop(known_hosts="")],
    }[what]
    upstream_house(policy, *hops)
    result = ssh.run("echo in")
    assert result.status != 0 and b"in" not in result.out and result.err.strip(), result
    assert "Connection from" not in sshd.log


# ---- certificates


@pytest.fixture
def ca(work: Path) -> Key:
    return make_key(work / "ca")


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_certificate(policy: Policy, start_sshd: Any, ssh: OpenSsh, work: Path, ca: Key, other_key: Key, kind: str) -> None:
    key = certify(make_key(work / "key", kind), ca, principals=me())
    certificate = (work / "key-cert.pub").read_bytes()
    sshd = start_sshd(f"TrustedUserCAKeys {ca.path}.pub", user_key=other_key)
    for form in (certificate, key.certificate):
        upstream_house(policy, sshd.hop(private_key=key.path.read_bytes(), certificate=form))
        result = ssh.run("echo in")
        if result.out != b"in\n" and form == key.certificate:
            continue  # the line of the file is what the contract is read as; its bare bytes may be taken as well
        assert result.out == b"in\n", result
        assert "CERT" in sshd.logins()[0], sshd.logins()


@pytest.mark.parametrize("what", ["another key's", "garbage", "a host's", "no key"])
def test_a_certificate_that_does_not_match(policy: Policy, start_sshd: Any, ssh: OpenSsh, work: Path, ca: Key, user_key: Key, what: str) -> None:
    key = make_key(work / "key")
    certify(make_key(work / "another"), ca, principals=me())
    certify(key, ca, principals=me(), host=what == "a host's")
    certificate = {
        "another key's": (work / "another-cert.pub").read_bytes(),
        "garbage": b"ssh-ed25519-cert-v01@openssh.com AAAA",
    }.get(what, (work / "key-cert.pub").read_bytes())
    sshd = start_sshd(f"TrustedUserCAKeys {ca.path}.pub")
    credential = {"password": "x"} if what == "no key" else {"private_key": key.path.read_bytes()}
    upstream_house(policy, sshd.hop(certificate=certificate, **credential))
    result = ssh.run("echo in")
    assert result.status != 0 and b"in" not in result.out and result.err.strip(), result
    assert not sshd.logins()


def test_an_expired_certificate(policy: Policy, start_sshd: Any, ssh: OpenSsh, work: Path, ca: Key) -> None:
    key = certify(make_key(work / "key"), ca, principals=me(), valid="20200101:20200102")
    sshd = start_sshd(f"TrustedUserCAKeys {ca.path}.pub")
    upstream_house(policy, sshd.hop(private_key=key.path.read_bytes(), certificate=(work / "key-cert.pub").read_bytes()))
    result = ssh.run("echo in")
    assert result.status == 255 and result.err.strip() and not sshd.logins(), result


# ---- the client's agent

AGENT_OPTIONS = ("-A", "-o", "IdentityAgent=SSH_AUTH_SOCK")


class Agent:
    """An ssh-agent; `env` is what finds it."""

    def __init__(self, folder: Path, **env: str) -> None:
        path = folder / "agent.sock"
        self.env = {"SSH_AUTH_SOCK": str(path)}
        self.process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], env=clean_env(env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        poll(path.exists, "the agent")

    def add(self, *keys: Key, options: tuple[str, ...] = ()) -> "Agent":
        command = ["ssh-add", "-q", *options, *(str(key.path) for key in keys)]
        subprocess.run(command, env=clean_env(self.env), check=True, capture_output=True)
        return self

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_S)


@pytest.fixture
def agent(work: Path) -> Iterator[Agent]:
    agent = Agent(work)
    yield agent
    agent.close()


def by_agent(sshd: Sshd) -> Any:
    return sshd.hop(client_agent=pb.ClientAgent())


@pytest.mark.parametrize("kind,bits", [("ed25519", 0), ("rsa", 3072), ("ecdsa", 256)])
def test_signed_by_the_agent(policy: Policy, start_sshd: Any, ssh: OpenSsh, agent: Agent, work: Path, kind: str, bits: int) -> None:
    key = make_key(work / "key", kind, bits)
    sshd = start_sshd(user_key=key)
    agent.add(key)
    upstream_house(policy, by_agent(sshd))
    result = ssh.run("echo in", options=AGENT_OPTIONS, env=agent.env)
    assert result.out == b"in\n", result
    assert key.fingerprint in sshd.logins()[0]
    if kind == "rsa":  # never SHA-1
        assert "RSA" in sshd.logins()[0]


def test_in_an_interactive_shell(policy: Policy, sshd: Sshd, ssh: OpenSsh, agent: Agent, user_key: Key) -> None:
    agent.add(user_key)
    upstream_house(policy, by_agent(sshd))
    terminal = ssh.terminal(options=AGENT_OPTIONS, env=agent.env)
    terminal.write(b"echo in-$((1+1)); exit 4\r")
    terminal.wait_shown(b"in-2")
    assert terminal.wait() == 4


def test_one_of_the_agents_keys(policy: Policy, start_sshd: Any, ssh: OpenSsh, agent: Agent, work: Path) -> None:
    """The others are offered and not taken; sshd allows six tries."""
    keys = [make_key(work / f"key{n}", kind) for n, kind in enumerate(("ed25519", "ecdsa", "rsa", "ed25519"))]
    sshd = start_sshd(user_key=keys[-1])
    agent.add(*keys)
    upstream_house(policy, by_agent(sshd))
    assert ssh.run("echo in", options=AGENT_OPTIONS, env=agent.env).out == b"in\n"


def test_a_certificate_of_the_agent(policy: Policy, start_sshd: Any, ssh: OpenSsh, agent: Agent, work: Path, ca: Key) -> None:
    key = certify(make_key(work / "key"), ca, principals=me())
    sshd = start_sshd(f"TrustedUserCAKeys {ca.path}.pub")
    agent.add(key)
    upstream_house(policy, by_agent(sshd))
    assert ssh.run("echo in", options=AGENT_OPTIONS, env=agent.env).out == b"in\n"
    assert "CERT" in sshd.logins()[0]


def test_both_hops_by_the_agent(policy: Policy, start_sshd: Any, ssh: OpenSsh, agent: Agent, user_key: Key) -> None:
    agent.add(user_key)
    first, second = start_sshd(), start_sshd()
    upstream_house(policy, by_agent(first), by_agent(second))
    assert ssh.run("echo in", options=AGENT_OPTIONS, env=agent.env).out == b"in\n"
    assert len(first.logins()) == len(second.logins()) == 1


def test_no_agent_is_forwarded(policy: Policy, sshd: Sshd, ssh: OpenSsh) -> None:
    upstream_house(policy, by_agent(sshd))
    assert "agent" in refused(ssh)
    assert not sshd.logins()


def test_an_agent_that_is_not_allowed(policy: Policy, sshd: Sshd, ssh: OpenSsh, agent: Agent, user_key: Key) -> None:
    agent.add(user_key)
    upstream_house(policy, by_agent(sshd))
    policy.on.AgentRequested = deny_grant()
    assert "agent" in refused(ssh, options=AGENT_OPTIONS, env=agent.env)
    assert not sshd.logins()


def test_an_agent_without_keys(policy: Policy, sshd: Sshd, ssh: OpenSsh, agent: Agent) -> None:
    upstream_house(policy, by_agent(sshd))
    assert "agent" in refused(ssh, options=AGENT_OPTIONS, env=agent.env)


def test_an_agent_without_the_right_key(policy: Policy, sshd: Sshd, ssh: OpenSsh, agent: Agent, other_key: Key) -> None:
    agent.add(other_key)
    upstream_house(policy, by_agent(sshd))
    refused(ssh, options=AGENT_OPTIONS, env=agent.env)
    assert not sshd.logins()


def test_an_agent_that_refuses(policy: Policy, sshd: Sshd, ssh: OpenSsh, work: Path, user_key: Key) -> None:
    """Its user was asked, and said no."""
    folder = work / "asks"
    folder.mkdir()
    agent = Agent(folder, SSH_ASKPASS=shutil.which("false") or "", SSH_ASKPASS_REQUIRE="force", DISPLAY=":0")
    try:
        agent.add(user_key, options=("-c",))
        upstream_house(policy, by_agent(sshd))
        refused(ssh, options=AGENT_OPTIONS, env=agent.env)
        assert not sshd.logins()
    finally:
        agent.close()


def read_message(peer: socket.socket) -> bytes:
    head = peer.recv(4, socket.MSG_WAITALL)
    return peer.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL) if len(head) == 4 else b""


AGENTS: dict[str, bytes | None] = {
    "hangs": None,
    "hangs up": b"",
    "says no": string(b"\5"),
    "talks nonsense": string(b"\x2a what"),
    "is too long": u32(0xFFFFFFFF) + b"x" * 1000,
    "counts wrong": string(b"\x0c" + u32(0xFFFFFFFF) + string("key")),
    "is cut": string(b"\x0c" + u32(1) + u32(1000) + b"key"),
    "has a key of no kind": string(b"\x0c" + u32(1) + string(string("ssh-none") + string("x")) + string("comment")),
}


@pytest.mark.parametrize("what", AGENTS)
def test_an_agent_that_misbehaves(policy: Policy, daemon: Daemon, sshd: Sshd, ssh: OpenSsh, work: Path, what: str) -> None:
    path = work / "bad-agent"
    done = threading.Event()

    def serve_it(listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                read_message(peer)
                if AGENTS[what] is None:
                    done.wait(PATIENCE_S)
                else:
                    peer.sendall(AGENTS[what])

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(8)
        thread = threading.Thread(target=serve_it, args=(listener,), daemon=True)
        thread.start()
        upstream_house(policy, sshd.hop(client_agent=pb.ClientAgent(), connect_timeout_s=2))
        refused(ssh, options=("-o", f"ForwardAgent={path}"))  # and not for its own login
        done.set()
        listener.shutdown(socket.SHUT_RDWR)
    assert not sshd.logins()
    sshd.wait_connections(0)


def test_the_agent_signs_for_direct_channels(policy: Policy, sshd: Sshd, ssh: OpenSsh, agent: Agent, user_key: Key) -> None:
    """Once a session has it forwarded: ssh -A with -L."""
    agent.add(user_key)
    upstream_house(policy, by_agent(sshd))
    port = free_port()
    with serving(TcpServer(("127.0.0.1", 0), Echo)) as (_, target):
        options = (*AGENT_OPTIONS, "-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{port}:127.0.0.1:{target}")
        client = ssh.popen("echo up; cat", options=options, env=agent.env)
        assert client.stdout.readline() == b"up\n"
        with dial(port) as s:
            assert exchange(s, b"signed") == b"signed"
        assert len(sshd.logins()) == 1
        client.stdin.close()
        assert client.wait(PATIENCE_S) == 0
