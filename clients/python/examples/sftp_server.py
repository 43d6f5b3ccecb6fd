"""An SFTP server for one folder, and nothing else: no shell, no commands.

parleyd --policy-exec 'python3 sftp_server.py /srv/files' --listen 127.0.0.1:2022 --host-key host_key
sftp -P 2022 alice@127.0.0.1        # password: files
"""

import sys

import parley
from parley import sftp


class FileServer(parley.Policy):
    def __init__(self, folder):
        self.files = sftp.Folder(folder)

    async def validate_password(self, ctx, password):
        return parley.allow() if password == "files" else parley.deny()

    async def session_requested(self, ctx):
        return parley.accept()

    async def subsystem_requested(self, ctx, name):
        return parley.stream() if name == b"sftp" else parley.refuse("only sftp is served here")

    async def session(self, s):
        return await sftp.serve(s, self.files)


if __name__ == "__main__":
    parley.serve(FileServer(sys.argv[1] if len(sys.argv) > 1 else "."))
