"""A password, then a one-time code (RFC 6238), asked for in one keyboard-interactive dialogue (RFC 4256).

one_time_code.py NAME:PASSWORD:SECRET...     SECRET in base32, as authenticator apps take it
"""

import base64
import hmac
import struct
import sys
import time

import parley

STEP_S = 30


def code_at(secret, step):
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", step), "sha1")
    at = digest[-1] & 15
    return f"{(int.from_bytes(digest[at : at + 4], 'big') & 0x7FFFFFFF) % 10**6:06d}"


class OneTimeCode(parley.Policy):
    def __init__(self, people, clock=time.time):
        self.people = people  # {name: (password, secret)}
        self.clock = clock
        self.last_step = {}  # by name: a code is good once

    async def get_kbdint_challenge(self, ctx, language, submethods):
        ctx.state = b""  # of a dialogue that the client has left
        return parley.challenge("Password: ")

    async def validate_kbdint_response(self, ctx, responses):
        if not ctx.state:
            # The second question comes in any case: the first must not tell whether it was answered right.
            ctx.state = b"right" if self.is_password(ctx.user, responses[0]) else b"wrong"
            return parley.challenge(("Code: ", True), instruction="See your authenticator app.")
        good, ctx.state = ctx.state == b"right", b""
        ctx.log(password="right" if good else "wrong")
        return parley.allow() if good and self.use_code(ctx.user, responses[0]) else parley.deny()

    def is_password(self, user, given):
        expected = self.people[user][0] if user in self.people else ""
        return hmac.compare_digest(given.encode(), expected.encode()) and user in self.people

    def use_code(self, user, given):
        """True for the current code or the one before, and for each only once."""
        now = int(self.clock()) // STEP_S
        for step in (now - 1, now):
            expected = code_at(self.people[user][1], step)
            fresh = step > self.last_step.get(user, 0)
            if fresh and hmac.compare_digest(given.encode(), expected.encode()):
                self.last_step[user] = step
                return True
        return False

    async def session(self, s):
        await s.write(f"Welcome {s.user}.\r\n")


if __name__ == "__main__":
    lines = [argument.split(":") for argument in sys.argv[1:]]
    parley.serve(OneTimeCode({name: (password, secret) for name, password, secret in lines}))
