"""Lets everybody in to an echoing prompt and records what they do, one file per session.

    recorder.py [FOLDER]

The files are asciicasts (version 2), so `asciinema play FILE` shows them. What is typed is recorded too; the passwords
that were tried are not.
"""

import json
import sys
import time
from pathlib import Path

import parley


class Recording:
    """Writes one asciicast."""

    def __init__(self, path, s):
        self.file = path.open("w", encoding="utf-8")
        self.start = time.monotonic()
        size = s.size or parley.WindowChange(80, 24)
        title = f"{s.user} from {s.ctx.peer.ip}"
        header = {"version": 2, "width": size.columns, "height": size.rows, "title": title}
        self._line(header | {"timestamp": int(time.time())})

    def _line(self, value):
        self.file.write(json.dumps(value) + "\n")
        self.file.flush()

    def event(self, kind, data):
        self._line([round(time.monotonic() - self.start, 6), kind, data.decode("utf-8", "replace")])

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.file.close()


class Recorder(parley.Policy):
    def __init__(self, folder):
        self.folder = Path(folder)

    async def begin_auth(self, ctx):
        return parley.no_auth_required()

    async def session(self, s):
        # The name is made of the daemon's own ids, never of what the client sent.
        path = self.folder / f"{s.ctx.connection_id}-{s.ctx.channel}.cast"
        with Recording(path, s) as recording:

            async def show(data):
                recording.event("o", data)
                await s.write(data)

            s.on_window_change = lambda size: recording.event(
                "r", b"%dx%d" % (size.columns, size.rows)
            )
            if s.command is not None:
                recording.event("i", s.command + b"\n")
                await show(s.command.split(b" ")[0] + b": not found\n")
                return 127
            await show(b"$ ")
            async for data in s:
                recording.event("i", data)
                if data in (b"\x04", b"exit\n"):
                    break
                await show(data.replace(b"\r", b"\r\n$ "))
        return 0


if __name__ == "__main__":
    parley.serve(Recorder(sys.argv[1] if len(sys.argv) > 1 else "."))
