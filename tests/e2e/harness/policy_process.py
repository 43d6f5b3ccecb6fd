"""A policy as a program of its own, for tests that kill or stop one: lets everybody in and echoes.

    policy_process.py [TARGET]     (or PARLEY_POLICY_ADDRESS, as the daemon's --policy-exec gives it)
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.answers import open_house  # noqa: E402
from harness.policy import Policy  # noqa: E402
from harness.stream import ChannelStream  # noqa: E402


async def program(channel: ChannelStream) -> None:
    """`cat` echoes, `pid` tells whose answers these are, anything else is done at once."""
    command = channel.session.exec.command
    if command == b"pid":
        await channel.write(b"%d\n" % os.getpid())
    while command == b"cat" and (data := await channel.read_data()):
        await channel.write(data)
    await channel.exit(0)


def main() -> None:
    target = sys.argv[1] if len(sys.argv) > 1 else os.environ["PARLEY_POLICY_ADDRESS"]
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
    with open_house(Policy(target), program):
        print("serving", flush=True)
        signal.sigwait([signal.SIGTERM, signal.SIGINT])


if __name__ == "__main__":
    main()
