"""The policy behind `./dev demo`: password `demo` for any name, or a key that is listed; a small shell and commands.

demo.py [--keys FILE]        public keys, one authorized_keys line each; also $PARLEY_DEMO_KEYS
"""

import argparse
import asyncio
import os
import re
import time

import parley

HELP = """\
  help          this text
  who           who is logged in
  echo WORDS    say them again
  clock         the time, each second, until Ctrl-C
  exit          leave"""


class Demo(parley.Policy):
    def __init__(self, keys):
        self.keys = keys  # {(algorithm, base64)}
        self.sessions = []

    # ---- who gets in

    async def validate_password(self, ctx, password):
        return parley.allow() if password == "demo" else parley.deny("the password is: demo")

    async def validate_public_key(self, ctx, key, use):
        return parley.allow() if tuple(key.openssh.split()[:2]) in self.keys else parley.deny()

    # ---- what they get

    async def session(self, s):
        s.since = time.strftime("%H:%M:%S")
        self.sessions.append(s)
        try:
            if s.subsystem is not None:
                await s.write_stderr("There are no subsystems here.\n")
                return 1
            if s.command is not None:
                return await self.run(s, Terminal(s), s.command.decode("utf-8", "replace"))
            return await self.shell(s, Terminal(s))
        finally:
            self.sessions.remove(s)

    async def shell(self, s, terminal):
        await terminal.say(f"Welcome {s.user}. A policy writes all of this; try help.")
        status = 0
        while (line := await terminal.line("parley> ")) is not None and line.strip() != "exit":
            if line.strip():
                status = await self.run(s, terminal, line)
        await terminal.say("Bye.")
        return status

    async def run(self, s, terminal, line):
        """One command; its exit status."""
        name, _, words = line.strip().partition(" ")
        if name == "help":
            await terminal.say(HELP)
        elif name == "who":
            for other in self.sessions:
                await terminal.say(f"{other.user:<16} {other.ctx.peer.ip:<16} since {other.since}")
        elif name == "echo":
            await terminal.say(words)
        elif name == "cat":
            async for data in s:
                await s.write(data)
        elif name == "clock":
            while not await terminal.interrupted(1):
                await terminal.say(time.strftime("%H:%M:%S"))
            return 130
        elif name in ("exit", "true", "false"):
            return int(words) % 256 if words.isdigit() else int(name == "false")
        else:
            await s.write_stderr(terminal.text(f"{name}: no such command; try help\n"))
            return 127
        return 0


class Terminal:
    """Lines in and out. With a pty the client's keys arrive one by one, and we are the ones who show them."""

    def __init__(self, s):
        self.s = s
        self.typed = bytearray()
        self.ended = False
        self.signalled = asyncio.Event()
        s.on_signal = lambda signal: self.signalled.set()

    def text(self, text):
        return text.replace("\n", "\r\n") if self.s.pty else text

    async def say(self, text):
        await self.s.write(self.text(text + "\n"))

    async def more(self):
        """Wait for keys; False at the end."""
        data = b"" if self.ended else await self.s.read()
        self.ended = not data
        self.typed += data
        return bool(data)

    async def line(self, prompt):
        """One line without its end; None when there are no more."""
        if self.s.pty:
            await self.s.write(prompt)
        line = bytearray()
        while self.typed or await self.more():
            key = self.typed[:1]
            del self.typed[:1]
            if key in (b"\r", b"\n"):
                await self.echo("\r\n")
                return line.decode("utf-8", "replace")
            if not self.s.pty:
                line += key
            elif key in (b"\x7f", b"\b"):
                if line:
                    gone = line.decode("utf-8", "replace")[-1]
                    del line[-len(gone.encode()) if gone != "\ufffd" else -1 :]
                    await self.echo("\b \b")
            elif key == b"\x1b":
                self.typed = bytearray(re.sub(rb"^[\[O][0-9;]*.", b"", self.typed))  # arrows
            elif key == b"\x03":
                await self.echo("^C\r\n" + prompt)
                line.clear()
            elif key == b"\x04":
                if not line:
                    await self.echo("\r\n")
                    return None
            elif key >= b" " and len(line) < 1000:
                line += key
                await self.echo(bytes(key))
        return line.decode("utf-8", "replace") if line else None

    async def echo(self, data):
        if self.s.pty:
            await self.s.write(data)

    async def interrupted(self, seconds):
        """Sleep; True if Ctrl-C or a signal came meanwhile."""
        waits = {
            asyncio.ensure_future(self.interrupt_key()),
            asyncio.ensure_future(self.signalled.wait()),
        }
        done, pending = await asyncio.wait(waits, timeout=seconds, return_when="FIRST_COMPLETED")
        for task in pending:
            task.cancel()
        self.signalled.clear()
        return any([task.result() for task in done])

    async def interrupt_key(self):
        while b"\x03" not in self.typed:
            self.typed.clear()  # nobody asked for these keys
            if not await self.more():
                await asyncio.Event().wait()  # no key will come
        del self.typed[: self.typed.index(b"\x03") + 1]
        await self.echo("^C\r\n")
        return True


def read_keys(path):
    """The keys of an authorized_keys file without options."""
    with open(path, encoding="utf-8") as file:
        lines = [line.split() for line in file]
    return {(words[0], words[1]) for words in lines if len(words) > 1 and words[0][0] != "#"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The demo policy.")
    parser.add_argument("--keys", default=os.environ.get("PARLEY_DEMO_KEYS"), metavar="FILE")
    arguments = parser.parse_args()
    parley.serve(Demo(read_keys(arguments.keys) if arguments.keys else set()))
