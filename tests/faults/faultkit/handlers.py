"""The handlers that are asked: what leads a client to each, what answer is a yes, and whether the client got what it wanted."""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass
from typing import Any, Callable

from harness import wire
from harness.contract import output_class, pb
from harness.rawclient import RawClient, UserKey
from harness.rawssh import Disconnected
from harness.softkeys import certify
from harness.wait import PATIENCE_S
from harness.wire import boolean, string, u32

KEY, CA = UserKey(), UserKey()
CERTIFIED = certify(KEY, CA)
SECRET = "wonderland"

ALLOW = pb.Allow()
STREAM = pb.SessionAnswer(stream=pb.StreamEndpoint())
NAMED_METHODS = pb.Methods(methods=[pb.AUTH_METHOD_PUBLICKEY, pb.AUTH_METHOD_PASSWORD])
ASK_ABOUT_METHODS = pb.BeginAuthAnswer(requirement=pb.REQUIREMENT_REQUIRED).SerializeToString()
NAMES_METHODS = pb.BeginAuthAnswer(requirement=pb.REQUIREMENT_REQUIRED, methods=NAMED_METHODS).SerializeToString()
NOT_REQUIRED = pb.BeginAuthAnswer(requirement=pb.REQUIREMENT_NOT_REQUIRED).SerializeToString()

OPEN = pb.OpenAnswer(stream=pb.StreamEndpoint())
MANAGED = pb.ListenAnswer(managed=pb.ManagedListener(port=8080))
ASKED_EACH = pb.ListenAnswer(listen=pb.ListenEndpoint(ask_each=True)).SerializeToString()
CHALLENGE = pb.KbdintAnswer(challenge=pb.Challenge(prompts=[pb.Prompt(text="Code: ")])).SerializeToString()
NAMES_HOSTBASED = pb.BeginAuthAnswer(methods=pb.Methods(methods=[pb.AUTH_METHOD_HOSTBASED])).SerializeToString()
NAMES_KBDINT = pb.BeginAuthAnswer(methods=pb.Methods(methods=[pb.AUTH_METHOD_KEYBOARD_INTERACTIVE])).SerializeToString()

# The one address that has a name where there is no DNS, which is what host-based login is about.
HOME = "127.0.0.1"


def name_of(address: str) -> str:
    """As the daemon finds it, or "" if there is none."""
    try:
        return socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]
    except OSError:
        return ""


HOME_NAME = name_of(HOME)

# What lets everybody in and starts every program; a case spoils one answer of these.
YES: dict[str, Any] = {
    "ConnectionMade": pb.ConnectionMadeAnswer(allow=ALLOW),
    "ConnectionLost": pb.Ack(),
    "DebugMsgReceived": pb.Ack(),
    "BeginAuth": pb.BeginAuthAnswer.FromString(NOT_REQUIRED),
    "AuthCompleted": pb.AuthCompletedAnswer(allow=ALLOW),
    "HostBasedAuthSupported": pb.SupportedAnswer(support=pb.SUPPORT_YES),
    "KbdintAuthSupported": pb.SupportedAnswer(support=pb.SUPPORT_YES),
    "PublicKeyAuthSupported": pb.SupportedAnswer(support=pb.SUPPORT_YES),
    "PasswordAuthSupported": pb.SupportedAnswer(support=pb.SUPPORT_YES),
    "ValidatePublicKey": pb.AuthAnswer(allow=ALLOW),
    "ValidateCaKey": pb.AuthAnswer(allow=ALLOW),
    "ValidatePassword": pb.PasswordAnswer(allow=ALLOW),
    "ChangePassword": pb.PasswordAnswer(allow=ALLOW),
    "ValidateHostPublicKey": pb.AuthAnswer(allow=ALLOW),
    "ValidateHostCaKey": pb.AuthAnswer(allow=ALLOW),
    "ValidateHostBasedUser": pb.AuthAnswer(allow=ALLOW),
    "GetKbdintChallenge": pb.KbdintAnswer(allow=ALLOW),
    "ValidateKbdintResponse": pb.KbdintAnswer(allow=ALLOW),
    "SessionRequested": STREAM,
    "ConnectionRequested": OPEN,
    "UnixConnectionRequested": OPEN,
    "TunRequested": OPEN,
    "TapRequested": OPEN,
    "ServerRequested": MANAGED,
    "UnixServerRequested": MANAGED,
    "ForwardAccepted": pb.ForwardAcceptedAnswer(accept=pb.Accept()),
    "X11Requested": pb.GrantAnswer(allow=ALLOW),
    "AgentRequested": pb.GrantAnswer(allow=ALLOW),
    "PtyRequested": pb.GrantAnswer(allow=ALLOW),
    "EnvRequested": pb.GrantAnswer(allow=ALLOW),
    "ShellRequested": STREAM,
    "ExecRequested": STREAM,
    "SubsystemRequested": STREAM,
}


class CaseClient(RawClient):
    """Of one case."""

    user = "alice"


# ---- how a client gets there, and whether it got what it wanted


def got(client: RawClient, *types: int) -> bool:
    """True if the next message is the yes among these, which comes first; a disconnect is a no."""
    try:
        return client.expect(*types).type == types[0]
    except Disconnected as end:
        assert end.reason, "a disconnect that tells the client nothing"
        return False


def connected(client: RawClient) -> bool:
    client.send(bytes([wire.SERVICE_REQUEST]) + string("ssh-userauth"))
    return got(client, wire.SERVICE_ACCEPT)


def begun(client: RawClient) -> bool:
    client.service()
    client.send(client.auth_message("alice", "none"))
    return got(client, wire.USERAUTH_SUCCESS, wire.USERAUTH_FAILURE)


def tried(client: RawClient, message: bytes) -> bool:
    client.service()
    client.send(message)
    return got(client, wire.USERAUTH_SUCCESS, wire.USERAUTH_FAILURE, wire.PASSWD_CHANGEREQ)


def by_password(client: RawClient) -> bool:
    return tried(client, client.password_message("alice", SECRET))


def by_new_password(client: RawClient) -> bool:
    return tried(client, client.change_message("alice", SECRET, "in the rabbit hole"))


def by_key(client: RawClient) -> bool:
    return tried(client, client.key_message("alice", KEY))


def by_certificate(client: RawClient) -> bool:
    return tried(client, client.key_message("alice", CERTIFIED))


def probed(key: Any) -> Callable[[RawClient], bool]:
    def drive(client: RawClient) -> bool:
        client.service()
        client.send(client.auth_message("alice", "publickey", boolean(False) + string(key.algorithm) + string(key.blob)))
        return got(client, wire.PK_OK, wire.USERAUTH_FAILURE)

    return drive


def vouched(key: Any) -> Callable[[CaseClient], bool]:
    """The client's host has this key, and says that its user of the same name is there."""

    def drive(client: CaseClient) -> bool:
        rest = string(key.algorithm) + string(key.blob) + string(HOME_NAME + ".") + string(client.user)
        message = client.auth_message(client.user, "hostbased", rest)
        return tried(client, message + string(key.sign(string(client.session_id) + message)))

    return drive


def completed(client: RawClient) -> bool:
    """The client hears SUCCESS before AuthCompleted is asked; only what follows shows the answer."""
    client.login()
    client.send(client.open_message())
    return got(client, wire.OPEN_CONFIRMATION)


def opened(client: RawClient) -> bool:
    client.login()
    client.send(client.open_message())
    return got(client, wire.OPEN_CONFIRMATION, wire.OPEN_FAILURE)


def by_kbdint(client: RawClient) -> bool:
    return tried(client, client.auth_message("alice", "keyboard-interactive", string("") + string("")))


def responded(client: RawClient) -> bool:
    client.service()
    client.send(client.auth_message("alice", "keyboard-interactive", string("") + string("")))
    client.expect(wire.PASSWD_CHANGEREQ)  # INFO_REQUEST has the same number
    client.send(bytes([61]) + u32(1) + string(SECRET))
    return got(client, wire.USERAUTH_SUCCESS, wire.USERAUTH_FAILURE, wire.PASSWD_CHANGEREQ)


def channel(kind: str, rest: bytes) -> Callable[[RawClient], bool]:
    def drive(client: RawClient) -> bool:
        client.login().send(client.open_message(kind, rest=rest))
        return got(client, wire.OPEN_CONFIRMATION, wire.OPEN_FAILURE)

    return drive


def listening(name: str, rest: bytes) -> Callable[[RawClient], bool]:
    return lambda client: client.login().global_request(name, rest)


def accepted(client: RawClient) -> bool:
    """Somebody connects to what we listen on: a channel to the client, or the end."""
    client.login().send(bytes([wire.GLOBAL_REQUEST]) + string("tcpip-forward") + boolean(True) + string("") + u32(0))
    port = client.expect(wire.REQUEST_SUCCESS).u32()
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as peer:
        ready, _, _ = select.select([peer, client.socket], [], [], PATIENCE_S)
        if peer in ready:
            assert peer.recv(1) == b""
            return False
        return client.expect(wire.CHANNEL_OPEN).string() == b"forwarded-tcpip"


def requested(name: str, rest: bytes = b"") -> Callable[[RawClient], bool]:
    return lambda client: client.request(client.login().open(), name, rest)


def debugged(client: RawClient) -> bool:
    """A report's answer changes nothing: the login goes on."""
    client.send(bytes([wire.DEBUG]) + boolean(True) + string("hello") + string(""))
    return begun(client)


def lost(client: RawClient) -> bool:
    yes = begun(client)
    client.disconnect()
    return yes


@dataclass(frozen=True)
class Handler:
    """One row of the table."""

    name: str
    rpc: str
    drive: Callable[[Any], bool]
    begin: bytes = NOT_REQUIRED  # BeginAuth that leads there
    on_the_way: tuple[str, bytes] = ("", b"")  # another handler's answer that leads there
    absent_allows: bool = False
    report: bool = False
    after_login: bool = False
    at_home: bool = False  # its clients come from HOME, and the policy knows them by their users

    @property
    def yes(self) -> bytes:
        return self.begin if self.rpc == "BeginAuth" else YES[self.rpc].SerializeToString()

    @property
    def output_class(self) -> Any:
        return output_class(self.rpc)

    @property
    def output(self) -> Any:
        return output_class(self.rpc).DESCRIPTOR

    def field(self, name: str) -> int:
        return self.output.fields_by_name[name].number

    @property
    def yes_field(self) -> int:
        """The member that says yes."""
        return next(self.field(name) for name in ("allow", "managed", "accept", "stream", "support", "requirement") if name in self.output.fields_by_name)

    @property
    def has_oneof(self) -> bool:
        return bool(self.output.oneofs)


TCP = string("host") + u32(80) + string("") + u32(0)
X11 = boolean(False) + string("MIT-MAGIC-COOKIE-1") + string("00" * 16) + u32(0)
PTY = string("xterm") + u32(80) + u32(24) + u32(0) + u32(0) + string("")

HANDLERS = [
    Handler("ConnectionMade", "ConnectionMade", connected, absent_allows=True),
    Handler("BeginAuth", "BeginAuth", begun),
    Handler("AuthCompleted", "AuthCompleted", completed, absent_allows=True),
    Handler("PublicKeyAuthSupported", "PublicKeyAuthSupported", by_key, ASK_ABOUT_METHODS),
    Handler("PasswordAuthSupported", "PasswordAuthSupported", by_password, ASK_ABOUT_METHODS),
    Handler("ValidatePublicKey-probe", "ValidatePublicKey", probed(KEY), NAMES_METHODS),
    Handler("ValidatePublicKey-proven", "ValidatePublicKey", by_key, NAMES_METHODS),
    Handler("ValidateCaKey-probe", "ValidateCaKey", probed(CERTIFIED), NAMES_METHODS),
    Handler("ValidateCaKey-proven", "ValidateCaKey", by_certificate, NAMES_METHODS),
    Handler("ValidatePassword", "ValidatePassword", by_password, NAMES_METHODS),
    Handler("ChangePassword", "ChangePassword", by_new_password, NAMES_METHODS),
    Handler("KbdintAuthSupported", "KbdintAuthSupported", by_kbdint, ASK_ABOUT_METHODS),
    Handler("GetKbdintChallenge", "GetKbdintChallenge", by_kbdint, NAMES_KBDINT),
    Handler("ValidateKbdintResponse", "ValidateKbdintResponse", responded, NAMES_KBDINT, ("GetKbdintChallenge", CHALLENGE)),
    Handler("SessionRequested", "SessionRequested", opened, after_login=True),
    Handler("ConnectionRequested", "ConnectionRequested", channel("direct-tcpip", TCP), after_login=True),
    Handler("UnixConnectionRequested", "UnixConnectionRequested", channel("direct-streamlocal@openssh.com", string("/x") + string("") + u32(0)), after_login=True),
    Handler("TunRequested", "TunRequested", channel("tun@openssh.com", u32(1) + u32(7)), after_login=True),
    Handler("TapRequested", "TapRequested", channel("tun@openssh.com", u32(2) + u32(7)), after_login=True),
    Handler("ServerRequested", "ServerRequested", listening("tcpip-forward", string("") + u32(80)), after_login=True),
    Handler("UnixServerRequested", "UnixServerRequested", listening("streamlocal-forward@openssh.com", string("/x")), after_login=True),
    Handler("ForwardAccepted", "ForwardAccepted", accepted, on_the_way=("ServerRequested", ASKED_EACH), after_login=True),
    Handler("X11Requested", "X11Requested", requested("x11-req", X11), after_login=True),
    Handler("AgentRequested", "AgentRequested", requested("auth-agent-req@openssh.com"), after_login=True),
    Handler("PtyRequested", "PtyRequested", requested("pty-req", PTY), absent_allows=True, after_login=True),
    Handler("EnvRequested", "EnvRequested", requested("env", string("LANG") + string("C")), absent_allows=True, after_login=True),
    Handler("ShellRequested", "ShellRequested", requested("shell"), absent_allows=True, after_login=True),
    Handler("ExecRequested", "ExecRequested", requested("exec", string("true")), absent_allows=True, after_login=True),
    Handler("SubsystemRequested", "SubsystemRequested", requested("subsystem", string("sftp")), absent_allows=True, after_login=True),
    Handler("DebugMsgReceived", "DebugMsgReceived", debugged, report=True),
    Handler("ConnectionLost", "ConnectionLost", lost, report=True),
]
if HOME_NAME:
    HANDLERS += [
        Handler("HostBasedAuthSupported", "HostBasedAuthSupported", vouched(KEY), ASK_ABOUT_METHODS, at_home=True),
        Handler("ValidateHostPublicKey", "ValidateHostPublicKey", vouched(KEY), NAMES_HOSTBASED, at_home=True),
        Handler("ValidateHostCaKey", "ValidateHostCaKey", vouched(certify(KEY, CA, kind=2, principals=(HOME_NAME,))), NAMES_HOSTBASED, at_home=True),
        Handler("ValidateHostBasedUser", "ValidateHostBasedUser", vouched(KEY), NAMES_HOSTBASED, absent_allows=True, at_home=True),
    ]
