"""Where forwarded connections end: peer.py BYTES prints two ports, one that sends so many and one that takes all."""

from __future__ import annotations

import socket
import sys
import threading

CHUNK = bytes(256 * 1024)


def source(connection: socket.socket, left: int) -> None:
    with connection:
        while left > 0:
            left -= connection.send(CHUNK if left >= len(CHUNK) else CHUNK[:left])


def sink(connection: socket.socket, _left: int) -> None:
    buffer = bytearray(len(CHUNK))
    with connection:
        while connection.recv_into(buffer):
            pass


def serve(listener: socket.socket, work: object, count: int) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=work, args=(connection, count), daemon=True).start()


def main() -> None:
    count = int(sys.argv[1])
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    for listener, work in zip(listeners, (source, sink)):
        threading.Thread(target=serve, args=(listener, work, count), daemon=True).start()
    print(*(listener.getsockname()[1] for listener in listeners), flush=True)
    sys.stdin.read()  # until the bench goes


main()
