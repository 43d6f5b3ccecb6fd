"""Programs on the daemon's machine as people expect them of a login; for policies that run on the same machine."""

from __future__ import annotations

import os
import pwd
from typing import Mapping, Optional, Union

from parley.answers import Answer, process

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
ROOTS_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
)


def login_environment(user: str, **variables: str) -> dict[str, str]:
    """What login(1) sets: HOME, USER, LOGNAME, SHELL, PATH. KeyError: there is no such user."""
    entry = pwd.getpwnam(user)
    return {
        "HOME": entry.pw_dir,
        "USER": entry.pw_name,
        "LOGNAME": entry.pw_name,
        "SHELL": entry.pw_shell or "/bin/sh",
        "PATH": PATH if entry.pw_uid else ROOTS_PATH,
        **variables,
    }


def login_shell(
    user: str,
    command: Optional[Union[bytes, str]] = None,
    *,
    environment: Optional[Mapping[str, str]] = None,
    **fields,
) -> Answer:
    """The user's shell; with `command`, that command in it, as sshd runs it. `fields` are process()'s.

    KeyError: there is no such user.
    """
    variables = login_environment(user, **(environment or {}))
    words = ("-l",) if command is None else ("-c", command)
    fields = {"keep_environment": True, "user": user, **fields}
    return process(variables["SHELL"], *words, environment=variables, **fields)


def sftp_server(user: str, *arguments: str, **fields) -> Answer:
    """The machine's own sftp-server (Debian: openssh-sftp-server). FileNotFoundError: it has none."""
    for path in SFTP_SERVERS:
        if os.path.exists(path):
            variables = login_environment(user)
            return process(path, *arguments, environment=variables, **{"user": user, **fields})
    raise FileNotFoundError("sftp-server")
