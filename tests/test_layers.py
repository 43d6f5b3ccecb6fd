#!/usr/bin/python3
"""layers.py must be able to fail: each wrong arrow in a small tree of its own."""

import pathlib
import tempfile
import unittest

import layers

GOOD = {
    "server/main.c": '#include "daemon.h"\n#include "control/exec_child.h"\n',
    "server/daemon.h": '#include "config/config.h"\n',
    "server/daemon.c": '#include "worker.h"\n#include "conn/conn.h"\n#include <stdio.h>\n',
    "server/worker.h": "",
    "server/config/config.h": '#include "base/log.h"\n',
    "server/base/log.h": "",
    "server/conn/conn.h": '#include "transport/transport.h"\n#include "control/control.h"\n',
    "server/conn/conn.c": '#include "auth/auth.h"\n#include "conn/private.h"\n#include "private.h"\n',
    "server/conn/private.h": "",
    "server/auth/auth.h": "",
    "server/auth/grant.h": "",
    "server/transport/transport.h": "",
    "server/transport/libssh.h": "#include <libssh/libssh.h>\n",
    "server/transport/keys.c": '#include "transport/libssh.h"\n',
    "control/control.h": '#include "parley/policy/v1/policy.pb-c.h"\n',
    "control/grpc.c": "#include <grpc/grpc.h>\n#include \\\n\"control/link.h\"\n",
    "control/link.h": "",
    "control/exec_child.h": "",
}

# path, the line to add, what is said about it
BAD = [
    ("server/auth/auth.h", '#include "conn/conn.h"', "auth must not include from conn"),
    ("server/auth/a.c", '#include "channels/channels.h"', "auth must not include from channels"),
    ("server/conn/conn.c", '#include "auth/grant.h"', "is private to auth"),
    ("server/conn/conn.c", '#include "control/link.h"', "is private to control"),
    ("server/conn/conn.c", '  #  include   "config/config.h"', "conn must not include from config"),
    ("server/conn/conn.c", '#include "daemon.h"', "conn must not include from daemon"),
    ("server/conn/conn.c", "#include <libssh/libssh.h>", "belongs to transport"),
    ("server/conn/conn.c", '#include "libssh/priv.h"', "belongs to transport"),
    ("server/conn/conn.c", "#include <grpc/grpc.h>", "belongs to control"),
    ("server/conn/conn.c", '#include "../auth/auth.h"', "sideways"),
    ("server/conn/conn.c", "#include \\\n<grpc/grpc.h>", "belongs to control"),
    ("server/conn/conn.c", "#include HEADER", "cannot be read"),
    ("server/transport/keys.c", "#include <libssh/priv.h>", "one header of transport only"),
    ("server/transport/z.h", "#include <libssh/priv.h>", "one header is enough"),
    ("server/transport/keys.c", '#include "control/control.h"', "transport must not include from control"),
    ("server/config/config.h", '#include "control/control.h"', "config must not include from control"),
    ("server/base/log.h", '#include "config/config.h"', "base must not include from config"),
    ("server/base/log.h", "#include <control/control.h>", "base must not include from control"),
    ("server/main.c", '#include "control/control.h"', "main may include only exec_child.h"),
    ("server/main.c", '#include "conn/conn.h"', "main must not include from conn"),
    ("control/grpc.c", '#include "transport/transport.h"', "control must not include from transport"),
    ("control/grpc.c", '#include "endpoints/missing.h"', "control must not include from endpoints"),
    ("server/extra/x.c", "", "extra is not a room"),
]


class Layers(unittest.TestCase):
    def check(self, files):
        with tempfile.TemporaryDirectory() as name:
            root = pathlib.Path(name)
            for path, text in files.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text, encoding="utf-8")
            return layers.offences(root)

    def test_a_good_tree_passes(self):
        self.assertEqual(self.check(GOOD), [])

    def test_each_bad_arrow_is_named(self):
        for path, line, why in BAD:
            with self.subTest(path=path, line=line):
                files = dict(GOOD)
                files[path] = files.get(path, "") + line + "\n"
                found = self.check(files)
                self.assertEqual(len(found), 1, found)
                at = max(1, files[path].count("\n") - line.count("\n"))
                self.assertTrue(found[0].startswith(f"{path}:{at}: "), found)
                self.assertIn(why, found[0])


if __name__ == "__main__":
    unittest.main()
