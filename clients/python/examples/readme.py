import parley

PASSWORDS = {"alice": "wonderland"}


class Hello(parley.Policy):
    async def validate_password(self, ctx, password):
        return parley.allow() if PASSWORDS.get(ctx.user) == password else parley.deny()

    async def session(self, s):
        if s.command is not None:
            await s.write(b"You said: " + s.command + b"\n")
            return
        await s.write(f"Hello {s.user}, type something.\r\n")
        async for data in s:
            await s.write(data.upper())


if __name__ == "__main__":
    parley.serve(Hello())
