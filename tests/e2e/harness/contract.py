"""The contract's Python classes, generated from proto/ into a private directory: nothing generated is committed."""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = Path("parley/policy/v1")
SHARED = "E2E_CONTRACT_DIR"  # the directory, for the processes that we start: a killed one could not remove its own


def _generate(out: Path) -> None:
    """Messages only: the harness speaks gRPC by method name, so that it can also answer nonsense."""
    files = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto" / PACKAGE).glob("*.proto"))
    args = [f"-I{ROOT / 'proto'}", f"--python_out={out}", *files]
    protoc = shutil.which("protoc")
    command = [protoc, *args] if protoc else [sys.executable, "-m", "grpc_tools.protoc", *args]
    subprocess.run(command, check=True, cwd=ROOT)
    # Real packages: an installed SDK with the same top name must not win over a namespace package.
    for folder in (out / PACKAGE, *(out / PACKAGE).parents):
        if folder == out:
            break
        (folder / "__init__.py").touch()


def _load() -> dict[str, object]:
    out = Path(os.environ.get(SHARED, ""))
    if SHARED not in os.environ or not out.is_dir():
        out = Path(tempfile.mkdtemp(prefix="parley-proto-"))
        atexit.register(shutil.rmtree, out, ignore_errors=True)
        _generate(out)
        os.environ[SHARED] = str(out)
    sys.path.insert(0, str(out))
    for name in [name for name in sys.modules if name == "parley" or name.startswith("parley.")]:
        del sys.modules[name]
    names: dict[str, object] = {}
    for module in ("auth", "channel", "common", "connection", "login", "policy"):
        loaded = importlib.import_module(f"parley.policy.v1.{module}_pb2")
        names.update({k: v for k, v in vars(loaded).items() if not k.startswith("_")})
    return names


class _Contract:
    """All messages and enum values of parley.policy.v1 under one name: `pb.BeginAuthAnswer`."""

    def __init__(self, names: dict[str, object]) -> None:
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> object:
        raise AttributeError(f"parley.policy.v1 has no {name}")


_names = _load()
pb = _Contract(_names)
SERVICE = sys.modules["parley.policy.v1.policy_pb2"].DESCRIPTOR.services_by_name["Policy"]
METHODS = {method.name: method for method in SERVICE.methods}


def input_class(method: str) -> type:
    """The message class that the daemon sends to this RPC."""
    return getattr(pb, METHODS[method].input_type.name)


def output_class(method: str) -> type:
    """The message class that this RPC answers with."""
    return getattr(pb, METHODS[method].output_type.name)
