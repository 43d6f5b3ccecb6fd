"""A jump host that ends SSH: people log in with their own keys, the servers behind know only the jump host's.

ssh alice+web1@jump       a shell, a command, sftp, git, -L, ... at what the table calls web1

jump_host.py FOLDER       keys/NAME: authorized_keys of a person; table: lines of PERSON SERVER ACCOUNT@HOST[:PORT];
                          id: the private key that logs in there; known_hosts: the servers' keys
"""

import sys
from pathlib import Path

import parley


class JumpHost(parley.Policy):
    def __init__(self, folder):
        self.folder = Path(folder)

    def way(self, ctx):
        """Where this login goes, or None: nowhere."""
        for line in (self.folder / "table").read_text().splitlines():
            person, server, place = (line.split() + [""] * 3)[:3]
            if ctx.user == f"{person}+{server}" and "@" in place:
                account, _, address = place.partition("@")
                host, _, port = address.partition(":")
                return parley.UpstreamHop(
                    host=host,
                    port=int(port or 22),
                    user=account,
                    known_hosts=(self.folder / "known_hosts").read_bytes(),
                    private_key=(self.folder / "id").read_bytes(),
                )
        return None

    async def begin_auth(self, ctx):
        keys = {path.name: path for path in (self.folder / "keys").iterdir()}  # no name is ever a path
        path = keys.get(ctx.user.partition("+")[0])
        return parley.require_auth(methods=["publickey"], authorized_keys=path.read_bytes() if path else b"")

    async def auth_completed(self, ctx, restrictions):
        return parley.allow() if self.way(ctx) else parley.deny("You have no way there.")

    async def session_requested(self, ctx):
        way = self.way(ctx)
        ctx.log(way=f"{way.user}@{way.host}" if way else "none")
        return parley.upstream(way) if way else parley.refuse("You have no way there.")

    async def connection_requested(self, ctx, dest_host, dest_port, orig_host, orig_port):
        return await self.session_requested(ctx)  # connects from there


if __name__ == "__main__":
    parley.serve(JumpHost(sys.argv[1]))
