#!/usr/bin/python3
"""Reads every #include line below server/ and control/ and fails on an arrow that the design does not have.

    tests/layers.py [REPOSITORY]

Prints one line an offence, FILE:LINE: why. The rooms and their arrows are in the README's source tour.
"""

import pathlib
import re
import sys

# room -> rooms it may include from. Everything may include base and proto.
ARROWS = {
    "main": {"daemon", "config", "control", "endpoints"},
    "daemon": {"admin", "config", "listeners", "conn", "control", "transport"},
    "admin": {"config", "listeners", "conn", "control", "transport"},
    "conn": {"auth", "channels", "control", "transport"},
    "auth": {"control", "transport"},
    "channels": {"endpoints", "listeners", "control", "transport"},
    "endpoints": {"control", "transport"},
    "listeners": set(),
    "config": set(),
    "transport": set(),
    "control": set(),
    "base": set(),
}
EVERYWHERE = {"base", "proto"}

# What of a room the others may see; base is public as a whole.
PUBLIC = {
    "daemon": {"daemon.h"},
    "admin": {"admin.h"},
    "conn": {"conn.h"},
    "auth": {"auth.h"},
    "channels": {"channels.h", "env.h"},  # env.h: a value that channels.h speaks of
    "endpoints": {"endpoint.h", "dial.h", "splice.h", "tun.h", "upstream.h"},  # what comes before an endpoint, and without a channel
    "listeners": {"listener.h", "admission.h", "private.h", "remote.h"},
    "config": {"config.h"},
    "transport": {"transport.h", "numbers.h"},
    "control": {"control.h"},
}
# (room, header): the exceptions, each with its reason.
ALSO = {
    # main is started again as the child that becomes the policy program.
    ("main", "control/exec_child.h"),
    # And as the one that becomes a channel's program.
    ("main", "server/endpoints/process_child.h"),
}
# And for main nothing else of these rooms.
ONLY = {("main", "control"): {"exec_child.h"}, ("main", "endpoints"): {"process_child.h"}}

# Libraries that one room keeps to itself.
LIBRARIES = {
    "libssh/": "transport",
    "gssapi/": "transport",
    "grpc/": "control",
    "cyaml/": "config",
    "yaml.h": "config",
}

INCLUDE = re.compile(r"^\s*#\s*include(?:_next)?\b\s*(.*)$")
NAMED = re.compile(r'^(?:"([^"]+)"|<([^>]+)>)')
PROTO = re.compile(r"^parley/.*\.pb-c\.h$")


def room_of(path):
    """The room of a path below the repository, or None."""
    parts = path.parts
    if parts[0] == "control":
        return "control"
    if parts[0] != "server":
        return None
    if len(parts) == 2:
        return "main" if path.name == "main.c" else "daemon"
    return parts[1]


def resolve(root, includer, name):
    """The included file as a path below the repository; None: not ours."""
    for base in (includer.parent, pathlib.Path("server"), pathlib.Path(".")):
        path = base / name
        if (root / path).is_file():
            return pathlib.Path(*[part for part in path.parts if part != "."])
    # Not there (yet): still ours by its name.
    first = name.split("/")[0]
    if first in ARROWS and "/" in name:
        return pathlib.Path(name if first == "control" else f"server/{name}")
    return None


def check_library(path, room, name, holders):
    for prefix, owner in LIBRARIES.items():
        if not name.startswith(prefix):
            continue
        if room != owner:
            return f"<{name}> belongs to {owner}; {room} must not know it"
        if prefix == "libssh/":
            if path.suffix != ".h":
                return f"<{name}>: libssh is included by one header of transport only"
            holders.add(path)
            if len(holders) > 1:
                return f"<{name}>: libssh is included by {min(holders)} already; one header is enough"
    return None


def check_arrow(room, target):
    to = room_of(target)
    if to is None:
        return f"{target} is no room of the server"
    if to == room or to in EVERYWHERE or (room, str(target)) in ALSO:
        return None
    if to not in ARROWS[room]:
        return f"{room} must not include from {to} ({target})"
    if (room, to) in ONLY and target.name not in ONLY[room, to]:
        return f"{room} may include only {', '.join(sorted(ONLY[room, to]))} from {to} ({target})"
    if target.name not in PUBLIC.get(to, set()) or len(target.parts) > (2 if to in ("control", "daemon") else 3):
        return f"{target} is private to {to}"
    return None


def check_include(root, path, room, rest, holders):
    named = NAMED.match(rest)
    if named is None:
        return f"cannot be read: #include {rest}"
    name = named.group(1) or named.group(2)
    if ".." in name.split("/"):
        return f'"{name}" leaves its room sideways; name it from server/ or the top'
    if PROTO.match(name):
        return None
    problem = check_library(path, room, name, holders)
    if problem:
        return problem
    target = resolve(root, path, name)
    return check_arrow(room, target) if target else None


def includes(text):
    """(line number, what follows #include) of each; a line may go on after a backslash, as the compiler reads it."""
    number = 1
    for line in text.replace("\\\n", "\v").split("\n"):
        include = INCLUDE.match(line.replace("\v", " "))
        if include:
            yield number, include.group(1)
        number += 1 + line.count("\v")


def offences(root):
    """All of them, as "FILE:LINE: why"."""
    found = []
    holders = set()
    for top in ("server", "control"):
        for file in sorted((root / top).rglob("*.[ch]")):
            path = file.relative_to(root)
            room = room_of(path)
            if room not in ARROWS:
                found.append(f"{path}:1: {room} is not a room of the design")
                continue
            for number, rest in includes(file.read_text(encoding="utf-8")):
                problem = check_include(root, path, room, rest, holders)
                if problem:
                    found.append(f"{path}:{number}: {problem}")
    return found


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    if not (root / "server").is_dir():
        sys.exit(f"{root}: no server/ there")
    found = offences(root.resolve())
    for line in found:
        print(line)
    print(f"layers: {len(found)} offences" if found else "layers: ok")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
