#!/usr/bin/env python3
"""Generate the Python code of the contract; none of it is ever committed.

    python3 clients/python/generate.py [--out build/python]

Debian's protoc with grpc_python_plugin is preferred: what it writes loads under every protobuf runtime from 4.21 on,
whereas code from grpcio-tools asks for a runtime at least as new as itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def proto_dir() -> Path:
    """The contract: beside us in a source archive, two folders up in the repository."""
    for candidate in (HERE / "proto", HERE.parent.parent / "proto"):
        if (candidate / "parley").is_dir():
            return candidate
    raise SystemExit("generate.py: the folder proto/ is missing")


def _command(tool: str) -> list[str]:
    plugin = shutil.which("grpc_python_plugin")
    protoc = shutil.which("protoc")
    if tool in ("auto", "protoc") and protoc and plugin:
        return [protoc, f"--plugin=protoc-gen-grpc_python={plugin}"]
    if tool in ("auto", "grpcio-tools") and importlib.util.find_spec("grpc_tools"):
        return [sys.executable, "-m", "grpc_tools.protoc"]
    raise SystemExit(
        "generate.py: needs protoc and grpc_python_plugin (Debian: apt-get install protobuf-compiler "
        "protobuf-compiler-grpc) or the Python package grpcio-tools"
    )


def _install(source: Path, target: Path) -> None:
    # A rename at a time, and only what changed: programs that start meanwhile never see half a file.
    if target.exists() and target.read_bytes() == source.read_bytes():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.copyfile(source, partial)
    partial.replace(target)


def generate(out: Path, tool: str = "auto") -> list[Path]:
    """Write `parley/<package>/v1/*_pb2.py` below `out`; return what is there afterwards."""
    protos = proto_dir()
    files = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as temp:
        subprocess.run(
            [
                *_command(tool),
                f"--proto_path={protos}",
                f"--python_out={temp}",
                f"--grpc_python_out={temp}",
                *files,
            ],
            check=True,
            stdin=subprocess.DEVNULL,
        )
        written = []
        for source in sorted(Path(temp).rglob("*.py")):
            target = out / source.relative_to(temp)
            _install(source, target)
            written.append(target)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE.parent.parent / "build" / "python")
    parser.add_argument("--tool", choices=("auto", "protoc", "grpcio-tools"), default="auto")
    arguments = parser.parse_args()
    written = generate(arguments.out, arguments.tool)
    print(f"{len(written)} files in {arguments.out}")


if __name__ == "__main__":
    main()
