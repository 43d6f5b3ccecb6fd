"""Who asks: the facts that come with every question, and what any answer may carry besides its yes or no."""

from __future__ import annotations

from typing import Optional, Sequence

from parley._wire import auth_pb2, common_pb2


class Context:
    """The first argument of every handler.

    Everything a stateless policy needs is here, so one policy may run in several copies. `request` is the whole
    question, for fields that the handler does not take as arguments.
    """

    def __init__(self, request) -> None:
        self.request = request
        self._context = request.context
        self._common = common_pb2.Common()

    def __repr__(self) -> str:
        # Never the request: it may hold a password.
        return f"Context(connection_id={self.connection_id!r}, user={self.user!r})"

    @property
    def connection_id(self) -> str:
        """32 hex digits, random for each connection; the daemon's log lines start with it."""
        return self._context.connection_id

    @property
    def question_id(self) -> str:
        """Unique; the same when one question is asked again, so that an answer with an effect can be given once."""
        return self._context.question_id

    @property
    def daemon(self) -> str:
        return self._context.daemon

    @property
    def contract_revision(self) -> int:
        """What this daemon can enforce."""
        return self._context.contract_revision

    @property
    def user(self) -> str:
        """Exactly as the client sent it."""
        return self._context.user

    @property
    def authenticated(self) -> bool:
        return self._context.authenticated

    @property
    def peer(self) -> common_pb2.Address:
        """The client: `peer.ip`, `peer.port`."""
        return self._context.peer

    @property
    def local(self) -> common_pb2.Address:
        return self._context.local

    @property
    def client_version(self) -> str:
        return self._context.client_version

    @property
    def passed(self) -> Sequence[auth_pb2.Factor]:
        """The credentials accepted so far, in order."""
        return self._context.passed

    @property
    def session_id(self) -> bytes:
        return self._context.session_id

    @property
    def channel(self) -> Optional[int]:
        """The daemon's number of the channel that the question is about; None if it is about none."""
        return getattr(self.request, "channel", None)

    @property
    def state(self) -> bytes:
        """What this policy set earlier on this connection. Set it (at most 4 KiB) to have it in later questions."""
        if self._common.HasField("state"):
            return self._common.state
        return self._context.state

    @state.setter
    def state(self, value: bytes) -> None:
        self._common.state = value

    def log(self, **fields: object) -> None:
        """Add fields to this decision's line in the daemon's audit log."""
        for name, value in fields.items():
            self._common.log[name] = str(value)

    def banner(self, text: str, language: str = "") -> None:
        """Show a text before login."""
        self._common.banner.CopyFrom(common_pb2.Banner(text=text, language=language))

    def disconnect(self, reason: str, code: int = 0, language: str = "") -> None:
        """End the connection with these words; wins over whatever the handler returns."""
        self._common.disconnect.CopyFrom(
            common_pb2.Disconnect(code=code, reason=reason, language=language)
        )

    def add_to(self, answer) -> None:
        """Put what was set here into the answer that goes out."""
        if self._common.ByteSize():
            answer.common.MergeFrom(self._common)
