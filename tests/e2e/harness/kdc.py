"""A Kerberos realm of the test's own: Debian's KDC in a private directory and on a private port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path

from .daemon import clean_env
from .wait import PATIENCE_S, Board

REALM = "PARLEY.TEST"
SBIN = "/usr/sbin:/sbin:/usr/bin:/bin"
PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")


def missing() -> str:
    """The programs of krb5-kdc and krb5-user that are not there; empty: all are."""
    return ", ".join(name for name in PROGRAMS if not shutil.which(name, path=SBIN))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Kdc:
    """Principals have their name as password; the keytab has the server's key, for `localhost`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.board = Board()
        self.lines: list[str] = []
        self.keytab = folder / "keytab"
        self._port = _free_port()
        self._configure()
        self._run("kdb5_util", "create", "-s", "-P", "master")
        self.process = self._start()

    def _configure(self) -> None:
        (self.folder / "krb5.conf").write_text(
            f"[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n"
            " dns_canonicalize_hostname = false\n rdns = false\n udp_preference_limit = 1\n"
            f"[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{self._port}\n }}\n"
            f"[domain_realm]\n localhost = {REALM}\n"
        )
        (self.folder / "kdc.conf").write_text(
            f"[kdcdefaults]\n kdc_listen = 127.0.0.1:{self._port}\n kdc_tcp_listen = 127.0.0.1:{self._port}\n"
            f"[realms]\n {REALM} = {{\n  database_name = {self.folder}/principal\n  key_stash_file = {self.folder}/stash\n"
            f"  acl_file = {self.folder}/acl\n }}\n[logging]\n kdc = STDERR\n"
        )

    @property
    def env(self) -> dict[str, str]:
        """For everything that speaks Kerberos; the replay cache is private, too."""
        return {
            "KRB5_CONFIG": str(self.folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
            "KRB5CCNAME": f"FILE:{self.folder}/tickets",
            "KRB5RCACHENAME": f"file2:{self.folder}/rcache",
        }

    def _env(self) -> dict[str, str]:
        return clean_env(self.env | {"PATH": f"{SBIN}:{os.environ.get('PATH', '')}"})

    def _run(self, *argv: str, data: str = "") -> str:
        done = subprocess.run(
            argv, env=self._env(), input=data, capture_output=True, text=True, timeout=PATIENCE_S, start_new_session=True
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def _start(self) -> subprocess.Popen:
        process = subprocess.Popen(["krb5kdc", "-n"], env=self._env(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, args=(process,), daemon=True).start()
        self.board.wait(lambda: [line for line in self.lines if "commencing operation" in line], "the KDC is ready")
        return process

    def _read(self, process: subprocess.Popen) -> None:
        assert process.stderr
        for line in process.stderr:
            with self.board:
                self.lines.append(line)

    # ---- principals and tickets

    def add_user(self, name: str) -> None:
        self._run("kadmin.local", "-q", f"addprinc -pw {name} {name}")

    def add_service(self, name: str) -> None:
        """Its key goes to the keytab."""
        self._run("kadmin.local", "-q", f"addprinc -randkey {name}")
        self._run("kadmin.local", "-q", f"ktadd -k {self.keytab} {name}")

    def kinit(self, name: str) -> None:
        self._run("kinit", "-f", name, data=f"{name}\n")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_S)
