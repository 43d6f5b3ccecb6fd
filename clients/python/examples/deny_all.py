"""Lets nobody in, and says so: shows how to refuse in words at each step.

Denying needs no code (a policy that overrides nothing denies everything); the words do.
"""

import parley


class DenyAll(parley.Policy):
    async def begin_auth(self, ctx):
        ctx.banner(f"This server is closed, {ctx.user}.\r\n")
        ctx.log(rule="closed")
        return parley.require_auth()

    async def validate_public_key(self, ctx, key, use):
        return parley.deny("closed")

    async def validate_password(self, ctx, password):
        return parley.deny("closed")

    async def session_requested(self, ctx):
        return parley.refuse("closed")


if __name__ == "__main__":
    parley.serve(DenyAll())
