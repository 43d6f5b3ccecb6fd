"""Lets everybody in, with any key or password or with none, and gives each a session that says who they are.

For trying things out on your own machine. Every login succeeds.
"""

import parley


class AllowAll(parley.Policy):
    async def begin_auth(self, ctx):
        return parley.no_auth_required()

    async def env_requested(self, ctx, variable):
        return parley.allow()

    async def session(self, s):
        what = "a shell" if s.shell else repr(s.command or s.subsystem)
        await s.write(f"You are {s.user} from {s.ctx.peer.ip} and asked for {what}.\r\n")


if __name__ == "__main__":
    parley.serve(AllowAll())
