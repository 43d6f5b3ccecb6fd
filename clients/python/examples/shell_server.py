"""An ordinary SSH server: the machine's users log in with their ~/.ssh/authorized_keys and get their shell, commands,
sftp, scp, rsync and git. Each program runs as its user, so the daemon (which starts this policy) must be root; otherwise
only its own user can log in.

parleyd --policy-exec 'python3 shell_server.py' --listen 127.0.0.1:2022 --host-key host_key
"""

import os
import pwd
import stat

import parley


def authorized_keys(user):
    """What the user's own file says; nothing if there is none, or if others may write to it."""
    try:
        entry = pwd.getpwnam(user)
        path = os.path.join(entry.pw_dir, ".ssh", "authorized_keys")
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
            facts = os.fstat(file.fileno())
            regular = stat.S_ISREG(facts.st_mode) and facts.st_uid == entry.pw_uid
            return file.read(65536) if regular and not facts.st_mode & 0o022 else b""
    except (KeyError, OSError):
        return b""


class ShellServer(parley.Policy):
    async def begin_auth(self, ctx):
        return parley.require_auth(methods=["publickey"], authorized_keys=authorized_keys(ctx.user))

    async def session_requested(self, ctx):
        return parley.accept()

    async def shell_requested(self, ctx):
        return parley.login_shell(ctx.user)

    async def exec_requested(self, ctx, command):
        return parley.login_shell(ctx.user, command)

    async def subsystem_requested(self, ctx, name):
        return parley.sftp_server(ctx.user) if name == b"sftp" else parley.refuse("no such subsystem")


if __name__ == "__main__":
    parley.serve(ShellServer())
