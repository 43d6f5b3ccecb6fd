"""An SFTP server (draft-ietf-secsh-filexfer-02, version 3, as OpenSSH speaks it) over a session's bytes.

    async def session(self, s):
        if s.subsystem == b"sftp":
            return await sftp.serve(s, Folder("/srv/files"))

What is served is an object with the methods of `Folder`; an OSError of theirs becomes the request's status. Requests
are answered in order, one at a time; the calls that touch a disk run in a thread.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import struct
import time
from typing import Dict, List, NamedTuple, Optional, Tuple

PACKET_MAX_BYTES = 256 * 1024 + 1024
READ_MAX_BYTES = 256 * 1024
HANDLES_MAX = 256
NAMES_PER_ANSWER = 100

INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT = range(1, 11)
OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME = range(11, 19)
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED = 101, 102, 103, 104, 105, 200
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE = range(6)
UNSUPPORTED = 8

STATUS_OF = {
    errno.ENOENT: NO_SUCH_FILE,
    errno.ENOTDIR: NO_SUCH_FILE,
    errno.EACCES: PERMISSION_DENIED,
    errno.EPERM: PERMISSION_DENIED,
    errno.EROFS: PERMISSION_DENIED,
    errno.ENOSYS: UNSUPPORTED,
}
EXTENSIONS = ((b"posix-rename@openssh.com", b"1"), (b"fsync@openssh.com", b"1"))


class Attributes(NamedTuple):
    """What a client sends to be set; None: leave it."""

    size: Optional[int] = None
    owner: Optional[Tuple[int, int]] = None
    mode: Optional[int] = None
    times: Optional[Tuple[int, int]] = None


class ProtocolError(Exception):
    """The client's bytes are no SFTP."""


# ---- bytes


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        if len(piece) != count:
            raise ProtocolError("a packet is too short")
        self.at += count
        return piece

    def u32(self) -> int:
        return struct.unpack(">I", self.take(4))[0]

    def u64(self) -> int:
        return struct.unpack(">Q", self.take(8))[0]

    def string(self) -> bytes:
        return self.take(self.u32())

    def attributes(self) -> Attributes:
        flags = self.u32()
        result = Attributes(
            size=self.u64() if flags & 1 else None,
            owner=(self.u32(), self.u32()) if flags & 2 else None,
            mode=self.u32() if flags & 4 else None,
            times=(self.u32(), self.u32()) if flags & 8 else None,
        )
        for _ in range(self.u32() if flags & 0x80000000 else 0):
            self.string(), self.string()
        return result


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def attributes(info: os.stat_result) -> bytes:
    times = (int(info.st_atime) & 0xFFFFFFFF, int(info.st_mtime) & 0xFFFFFFFF)
    return struct.pack(">IQIIIII", 15, info.st_size, info.st_uid, info.st_gid, info.st_mode, *times)


def long_name(name: bytes, info: os.stat_result) -> bytes:
    """A line of `ls -l`, which clients show as it is."""
    when = time.strftime("%b %d %H:%M", time.gmtime(info.st_mtime))
    line = f"{stat.filemode(info.st_mode)} {info.st_nlink:4} {info.st_uid:8} {info.st_gid:8} "
    return f"{line}{info.st_size:8} {when} ".encode() + name


def normalize(path: bytes) -> bytes:
    """Absolute, without "." and "..", which end at the root: nothing leads above it."""
    parts: List[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            parts = parts[:-1]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/" + b"/".join(parts)


# ---- a folder, and nothing beyond it


class Folder:
    """Files below `root`, which the client sees as "/". No symbolic link is followed anywhere below it, so neither a name
    nor a race leads out; `writable=False` refuses every change."""

    def __init__(self, root: str, writable: bool = True) -> None:
        self.root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.writable = writable

    def close(self) -> None:
        os.close(self.root)

    def _parent(self, path: bytes) -> Tuple[int, bytes]:
        """The folder that holds the last name, opened step by step, and that name ("." for the root)."""
        *folders, name = normalize(path).split(b"/")[1:]
        at = os.dup(self.root)
        try:
            for folder in folders:
                flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                below = os.open(folder, flags, dir_fd=at)
                os.close(at)
                at = below
        except OSError:
            os.close(at)
            raise
        return at, name or b"."

    def _at(self, path: bytes, call, change: bool = False):
        if change and not self.writable:
            raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))
        folder, name = self._parent(path)
        try:
            return call(name, folder)
        finally:
            os.close(folder)

    def open(self, path: bytes, flags: int, mode: int) -> int:
        change = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) != 0
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = self._at(path, lambda name, at: os.open(name, flags, mode, dir_fd=at), change)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file")
        return fd

    def list(self, path: bytes) -> List[Tuple[bytes, os.stat_result]]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = self._at(path, lambda name, at: os.open(name, flags, dir_fd=at))
        try:
            names = [b".", b".."] + [os.fsencode(name) for name in sorted(os.listdir(fd))]
            # ".." of the root is the root again: what lies above is not the client's to see.
            return [
                (n, os.stat(b"." if n == b".." else n, dir_fd=fd, follow_symlinks=False))
                for n in names
            ]
        finally:
            os.close(fd)

    def stat(self, path: bytes) -> os.stat_result:
        return self._at(path, lambda n, at: os.stat(n, dir_fd=at, follow_symlinks=False))

    def set(self, path: bytes, wanted: Attributes) -> None:
        flags = os.O_WRONLY if wanted.size is not None else os.O_RDONLY
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = self._at(path, lambda name, at: os.open(name, flags, dir_fd=at), True)
        try:
            self.fset(fd, wanted)
        finally:
            os.close(fd)

    def fset(self, fd: int, wanted: Attributes) -> None:
        if not self.writable:
            raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))
        if wanted.owner is not None:
            raise PermissionError(errno.EPERM, "owners are not changed here")
        if wanted.size is not None:
            os.ftruncate(fd, wanted.size)
        if wanted.mode is not None:
            os.fchmod(fd, wanted.mode & 0o777)
        if wanted.times is not None:
            os.utime(fd, wanted.times)

    def mkdir(self, path: bytes, mode: int) -> None:
        self._at(path, lambda name, at: os.mkdir(name, mode & 0o777, dir_fd=at), True)

    def rmdir(self, path: bytes) -> None:
        self._at(path, lambda name, at: os.rmdir(name, dir_fd=at), True)

    def remove(self, path: bytes) -> None:
        self._at(path, lambda name, at: os.unlink(name, dir_fd=at), True)

    def rename(self, old: bytes, new: bytes, replace: bool) -> None:
        def move(name, at):
            def into(other, to):
                info = os.stat(name, dir_fd=at, follow_symlinks=False)
                if replace:
                    os.rename(name, other, src_dir_fd=at, dst_dir_fd=to)
                elif stat.S_ISDIR(
                    info.st_mode
                ):  # has no links; at worst an empty folder is replaced
                    os.mkdir(other, dir_fd=to)  # takes the name, or fails; the rename replaces it
                    os.rename(name, other, src_dir_fd=at, dst_dir_fd=to)
                else:  # fails where the new name exists, without a moment between look and move
                    os.link(name, other, src_dir_fd=at, dst_dir_fd=to, follow_symlinks=False)
                    os.unlink(name, dir_fd=at)

            self._at(new, into, True)

        self._at(old, move, True)


# ---- the protocol


def open_flags(wanted: int) -> int:
    """From SSH_FXF_* to os.O_*."""
    flags = {1: os.O_RDONLY, 2: os.O_WRONLY, 3: os.O_RDWR}.get(wanted & 3)
    if flags is None:
        raise OSError(errno.EINVAL, "neither read nor write")
    for bit, flag in ((4, os.O_APPEND), (8, os.O_CREAT), (16, os.O_TRUNC), (32, os.O_EXCL)):
        flags |= flag if wanted & bit else 0
    return flags


class Server:
    """One SFTP conversation. Handles are small numbers; a folder's handle is the list of what is left to show."""

    def __init__(self, files: Folder) -> None:
        self.files = files
        self.handles: Dict[bytes, object] = {}
        self.made = 0

    def close(self) -> None:
        for handle in self.handles.values():
            if isinstance(handle, int):
                os.close(handle)
        self.handles.clear()

    def answer(self, packet: bytes) -> bytes:
        """One request, one answer; both without their length."""
        r = Reader(packet)
        kind = r.take(1)[0]
        if kind == INIT:
            r.u32()
            return struct.pack(">BI", VERSION, 3) + b"".join(
                string(a) + string(b) for a, b in EXTENSIONS
            )
        head = r.take(4)
        try:
            reply, body = self._carry_out(kind, r)
        except OSError as error:
            code = STATUS_OF.get(error.errno or 0, FAILURE)
            reply, body = STATUS, self._status(code, error.strerror or "failed")
        return bytes([reply]) + head + body

    @staticmethod
    def _status(code: int, text: str = "") -> bytes:
        return struct.pack(">I", code) + string(text.encode()) + string(b"")

    def _carry_out(self, kind: int, r: Reader) -> Tuple[int, bytes]:
        request = self.REQUESTS.get(kind)
        if request is None:
            return STATUS, self._status(UNSUPPORTED, "not supported")
        return request(self, r) or (STATUS, self._status(OK))

    def _keep(self, what: object) -> Tuple[int, bytes]:
        self.made += 1
        name = struct.pack(">I", self.made)
        self.handles[name] = what
        return HANDLE, string(name)

    def _room(self) -> None:
        if len(self.handles) >= HANDLES_MAX:
            raise OSError(errno.EMFILE, "too many open files")

    def _handle(self, r: Reader, kind: type):
        handle = self.handles.get(r.string())
        if not isinstance(handle, kind):
            raise OSError(errno.EBADF, "no such handle")
        return handle

    def _open(self, r: Reader):
        path, flags, wanted = r.string(), open_flags(r.u32()), r.attributes()
        self._room()
        mode = 0o666 if wanted.mode is None else wanted.mode & 0o777
        return self._keep(self.files.open(path, flags, mode))

    def _opendir(self, r: Reader):
        self._room()
        return self._keep(self.files.list(r.string()))

    def _close(self, r: Reader) -> None:
        name = r.string()
        handle = self.handles.pop(name, None)
        if handle is None:
            raise OSError(errno.EBADF, "no such handle")
        if isinstance(handle, int):
            os.close(handle)

    def _read(self, r: Reader):
        fd, offset, count = self._handle(r, int), r.u64(), r.u32()
        beyond = offset >= os.fstat(fd).st_size
        data = b"" if beyond else os.pread(fd, min(count, READ_MAX_BYTES), offset)
        return (DATA, string(data)) if data else (STATUS, self._status(EOF, "end of file"))

    def _write(self, r: Reader) -> None:
        fd, offset, data = self._handle(r, int), r.u64(), memoryview(r.string())
        if not self.files.writable:
            raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))
        if offset + len(data) >= 2**63:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        while data:
            done = os.pwrite(fd, data, offset)
            data, offset = data[done:], offset + done

    def _readdir(self, r: Reader):
        left = self._handle(r, list)
        if not left:
            return STATUS, self._status(EOF, "end of folder")
        names, left[:NAMES_PER_ANSWER] = left[:NAMES_PER_ANSWER], []
        rows = (
            string(name) + string(long_name(name, info)) + attributes(info) for name, info in names
        )
        return NAME, struct.pack(">I", len(names)) + b"".join(rows)

    def _realpath(self, r: Reader):
        path = normalize(r.string())
        return NAME, struct.pack(">I", 1) + string(path) + string(path) + struct.pack(">I", 0)

    def _extended(self, r: Reader):
        name = r.string()
        if name == b"posix-rename@openssh.com":
            return self.files.rename(r.string(), r.string(), replace=True)
        if name == b"fsync@openssh.com":
            return os.fsync(self._handle(r, int))
        return STATUS, self._status(UNSUPPORTED, "not supported")

    REQUESTS = {
        OPEN: _open,
        CLOSE: _close,
        READ: _read,
        WRITE: _write,
        STAT: lambda self, r: (ATTRS, attributes(self.files.stat(r.string()))),
        LSTAT: lambda self, r: (ATTRS, attributes(self.files.stat(r.string()))),
        FSTAT: lambda self, r: (ATTRS, attributes(os.fstat(self._handle(r, int)))),
        SETSTAT: lambda self, r: self.files.set(r.string(), r.attributes()),
        FSETSTAT: lambda self, r: self.files.fset(self._handle(r, int), r.attributes()),
        OPENDIR: _opendir,
        READDIR: _readdir,
        REMOVE: lambda self, r: self.files.remove(r.string()),
        MKDIR: lambda self, r: self.files.mkdir(r.string(), r.attributes().mode or 0o777),
        RMDIR: lambda self, r: self.files.rmdir(r.string()),
        REALPATH: _realpath,
        RENAME: lambda self, r: self.files.rename(r.string(), r.string(), replace=False),
        EXTENDED: _extended,
    }


async def serve(session, files: Folder) -> int:
    """Speaks SFTP with the session's client until it has sent its last; the session's exit status."""
    server = Server(files)
    pending = bytearray()
    try:
        async for data in session:
            pending += data
            answers = bytearray()
            while len(pending) >= 4:
                length = int.from_bytes(pending[:4], "big")
                if not 1 <= length <= PACKET_MAX_BYTES:
                    raise ProtocolError(f"a packet of {length} bytes")
                if len(pending) < 4 + length:
                    break
                packet = bytes(pending[4 : 4 + length])
                del pending[: 4 + length]
                answers += string(await asyncio.to_thread(server.answer, packet))
                if len(answers) >= READ_MAX_BYTES:
                    await session.write(answers)
                    answers = bytearray()
            if answers:
                await session.write(answers)
    except ProtocolError as error:
        await session.write_stderr(f"sftp: {error}\n")
        return 1
    finally:
        server.close()
    return 0
