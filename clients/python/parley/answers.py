"""What a handler can answer.

Many RPCs share a word: "allow" is an answer to a password, to a pty and to a connection. So a helper here makes an
`Answer`, a recipe, which becomes the RPC's own message when the handler returns it. One that does not fit that RPC
(`accept()` to a password) is a mistake of the policy and refuses.
"""

from __future__ import annotations

from typing import Iterable, Optional, Sequence, Tuple, Union

from parley._wire import auth_pb2, channel_pb2, common_pb2, login_pb2

METHODS = {
    "publickey": auth_pb2.AUTH_METHOD_PUBLICKEY,
    "password": auth_pb2.AUTH_METHOD_PASSWORD,
    "keyboard-interactive": auth_pb2.AUTH_METHOD_KEYBOARD_INTERACTIVE,
    "hostbased": auth_pb2.AUTH_METHOD_HOSTBASED,
    "gssapi-with-mic": auth_pb2.AUTH_METHOD_GSSAPI_WITH_MIC,
    "gssapi-keyex": auth_pb2.AUTH_METHOD_GSSAPI_KEYEX,
    "none": auth_pb2.AUTH_METHOD_NONE,
}

TIED_TO_PASSWORD = login_pb2.SUPPORT_TIED_TO_PASSWORD
"""Answer to kbdint_auth_supported: one prompt, whose response goes to validate_password."""

ON_LOSS = {
    "keep": common_pb2.ON_LOSS_KEEP,
    "disconnect": common_pb2.ON_LOSS_DISCONNECT,
}


class Answer:
    """A recipe for an answer: field names of the RPC's message, and their values."""

    def __init__(self, **fields) -> None:
        self.fields = {name: value for name, value in fields.items() if value is not None}

    def __repr__(self) -> str:
        return f"Answer({', '.join(self.fields)})"

    def build(self, answer_class):
        """The message, or ValueError if this RPC cannot be answered so."""
        known = answer_class.DESCRIPTOR.fields_by_name
        for name in self.fields:
            if name not in known:
                raise ValueError(
                    f"{name!r} is no answer to this question ({answer_class.__name__})"
                )
        return answer_class(**self.fields)


def _bytes(value: Union[bytes, str]) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _methods(names: Iterable[Union[str, int]]) -> list[int]:
    return [METHODS[name] if isinstance(name, str) else name for name in names]


def _environment(variables) -> list:
    pairs = variables.items() if hasattr(variables, "items") else variables
    return [common_pb2.EnvVar(name=_bytes(name), value=_bytes(value)) for name, value in pairs]


def restrictions(
    *,
    force_command: Optional[Union[bytes, str]] = None,
    source_addresses: Optional[Iterable[str]] = None,
    permit_open: Optional[Iterable[str]] = None,
    permit_listen: Optional[Iterable[str]] = None,
    environment=(),
    **flags: bool,
) -> common_pb2.Restrictions:
    """What the daemon enforces from here on.

    A list left out sets no limit; an empty one allows nothing. Flags are the booleans of the message: `no_pty=True`,
    `no_port_forwarding=True`, `verify_required=True`, ...
    """
    result = common_pb2.Restrictions(environment=_environment(environment), **flags)
    if force_command is not None:
        result.force_command = _bytes(force_command)
    lists = (
        ("source_addresses", source_addresses),
        ("permit_open", permit_open),
        ("permit_listen", permit_listen),
    )
    for name, patterns in lists:
        if patterns is not None:
            getattr(result, name).CopyFrom(common_pb2.Patterns(patterns=patterns))
    return result


def limits(**values: int) -> common_pb2.Limits:
    """Limits of this connection: `login_timeout_s`, `idle_timeout_s`, `max_sessions`, ... 0 means none."""
    return common_pb2.Limits(**values)


# ---- yes and no


def allow(
    *,
    restrictions: Optional[common_pb2.Restrictions] = None,
    expires_in_s: Optional[int] = None,
    limits: Optional[common_pb2.Limits] = None,
    supervise: Optional[bool] = None,
    on_loss: Optional[str] = None,
) -> Answer:
    """Yes. `limits`, `supervise` and `on_loss` ("keep", "disconnect") only fit connection_made and auth_completed."""
    grant = common_pb2.Allow(restrictions=restrictions, expires_in_s=expires_in_s)
    return Answer(
        allow=grant,
        limits=limits,
        supervise=supervise,
        supervise_on_loss=None if on_loss is None else ON_LOSS[on_loss],
    )


def deny(message: str = "") -> Answer:
    """No. The message is shown to the user where the protocol can."""
    return Answer(deny=common_pb2.Deny(message=message))


def partial(
    *remaining: Union[str, int], restrictions: Optional[common_pb2.Restrictions] = None
) -> Answer:
    """This factor is good and more is needed: one of the `remaining` methods ("password", ...) must follow."""
    if not remaining:
        raise ValueError("partial() needs at least one method that remains")
    return Answer(
        partial=login_pb2.PartialSuccess(remaining=_methods(remaining), restrictions=restrictions)
    )


# ---- authentication


def require_auth(
    *,
    methods: Optional[Sequence[Union[str, int]]] = None,
    required: Sequence[Sequence[Union[str, int]]] = (),
    authorized_keys: Union[bytes, str] = b"",
    revoked_keys: Union[bytes, str] = b"",
    tie_kbdint_to_password: bool = False,
) -> Answer:
    """Answer to begin_auth: credentials are needed.

    `methods` are offered without asking the *_supported handlers. `required` are sets of methods: a login needs all
    of one set, whatever single answers say. Keys in `authorized_keys` (OpenSSH's format, options included) need no
    validate_public_key, certificates of a cert-authority in it no validate_ca_key. Keys in `revoked_keys` (a KRL, or one
    key a line) are refused unasked.
    """
    return Answer(
        requirement=login_pb2.REQUIREMENT_REQUIRED,
        methods=None if methods is None else auth_pb2.Methods(methods=_methods(methods)),
        required=[auth_pb2.Methods(methods=_methods(names)) for names in required],
        authorized_keys=_bytes(authorized_keys),
        revoked_keys=_bytes(revoked_keys),
        tie_kbdint_to_password=tie_kbdint_to_password,
    )


def no_auth_required() -> Answer:
    """Answer to begin_auth: this user is logged in at once, without any credential."""
    return Answer(requirement=login_pb2.REQUIREMENT_NOT_REQUIRED)


def change_required(prompt: str, language: str = "") -> Answer:
    """The password is right but expired, or the new one is not acceptable: the client asks for another."""
    return Answer(change_required=login_pb2.PasswordChange(prompt=prompt, language=language))


def challenge(
    *prompts: Union[str, Tuple[str, bool]],
    name: str = "",
    instruction: str = "",
    language: str = "",
) -> Answer:
    """Keyboard-interactive: ask the user this. A prompt is its text, or (text, echo); what is typed is hidden by default."""
    pairs = [(prompt, False) if isinstance(prompt, str) else prompt for prompt in prompts]
    return Answer(
        challenge=login_pb2.Challenge(
            name=name,
            instruction=instruction,
            language=language,
            prompts=[login_pb2.Prompt(text=text, echo=echo) for text, echo in pairs],
        )
    )


# ---- what a channel ends in


def refuse(reason: str = "", code: int = 0, language: str = "") -> Answer:
    """No channel, no program, no listener. `code` is RFC 4254 section 5.1's; 0 becomes 1, administratively prohibited."""
    return Answer(refuse=channel_pb2.Refuse(code=code, reason=reason, language=language))


def accept(options: Optional[channel_pb2.ChannelOptions] = None) -> Answer:
    """Yes to the question; for session_requested: the endpoint is chosen when the program is asked for."""
    return Answer(accept=channel_pb2.Accept(), options=options)


def stream(target: str = "", options: Optional[channel_pb2.ChannelOptions] = None) -> Answer:
    """The bytes come to this policy (`session` or `channel`), or to a stream target of the daemon's configuration."""
    return Answer(stream=channel_pb2.StreamEndpoint(target=target), options=options)


def forward(
    host: str = "",
    port: int = 0,
    *,
    path: Union[bytes, str] = b"",
    unit: Optional[int] = None,
    connect_timeout_s: int = 0,
    source_address: str = "",
) -> Answer:
    """The daemon connects (or opens the device) itself. What is left out stays as the client asked."""
    return Answer(
        forward=channel_pb2.ForwardEndpoint(
            host=host,
            port=port,
            path=_bytes(path),
            unit=unit,
            connect_timeout_s=connect_timeout_s,
            source_address=source_address,
        )
    )


def process(
    *argv: Union[bytes, str],
    environment=(),
    keep_environment: bool = False,
    directory: Union[bytes, str] = b"",
    user: str = "",
    groups: Sequence[str] = (),
    max_processes: int = 0,
    max_memory_bytes: int = 0,
) -> Answer:
    """The daemon runs this program on its own machine, and exactly this."""
    if not argv:
        raise ValueError("process() needs a program")
    return Answer(
        process=channel_pb2.ProcessEndpoint(
            argv=[_bytes(word) for word in argv],
            environment=_environment(environment),
            keep_environment=keep_environment,
            directory=_bytes(directory),
            user=user,
            groups=groups,
            max_processes=max_processes,
            max_memory_bytes=max_memory_bytes,
        )
    )


def upstream(*hops: channel_pb2.UpstreamHop) -> Answer:
    """The daemon carries the channel over another SSH connection; the last hop is the server itself."""
    if not hops:
        raise ValueError("upstream() needs at least one hop")
    return Answer(upstream=channel_pb2.UpstreamEndpoint(hops=hops))


def listen(
    host: str = "",
    port: int = 0,
    *,
    path: Union[bytes, str] = b"",
    path_mode: int = 0,
    ask_each: bool = False,
) -> Answer:
    """The daemon listens: on loopback unless `host` is given, at the port or path asked for unless given."""
    return Answer(
        listen=channel_pb2.ListenEndpoint(
            host=host, port=port, path=_bytes(path), path_mode=path_mode, ask_each=ask_each
        )
    )


def managed(port: int = 0) -> Answer:
    """Nobody listens: the policy opens the forwarded channels itself, through supervise."""
    return Answer(managed=channel_pb2.ManagedListener(port=port))


# ---- from what a handler returned to the message


def to_message(value, answer_class):
    """The RPC's message, or TypeError/ValueError: nothing but a clear answer becomes a yes."""
    fields = answer_class.DESCRIPTOR.fields_by_name
    if isinstance(value, Answer):
        return value.build(answer_class)
    if isinstance(value, answer_class):
        return value
    if "support" in fields:
        if isinstance(value, bool):
            return answer_class(support=login_pb2.SUPPORT_YES if value else login_pb2.SUPPORT_NO)
        if value == TIED_TO_PASSWORD:
            return answer_class(support=TIED_TO_PASSWORD)
    elif isinstance(value, bool):
        if "allow" in fields:
            return (allow() if value else deny()).build(answer_class)
        if "refuse" in fields and not value:
            return refuse().build(answer_class)
    raise TypeError(
        f"a {type(value).__name__} is no answer to this question ({answer_class.__name__})"
    )
