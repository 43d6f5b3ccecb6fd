"""Adds the generated code of the contract when the package is built; the rest is in pyproject.toml."""

import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

sys.path.insert(0, str(Path(__file__).resolve().parent))
from generate import generate, proto_dir  # noqa: E402


class BuildWithContract(build_py):
    def run(self):
        super().run()
        generate(Path(self.build_lib), "grpcio-tools")


class SdistWithContract(sdist):
    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        shutil.copytree(proto_dir(), Path(base_dir) / "proto", dirs_exist_ok=True)


def protobuf_requirement():
    """Generated code wants a runtime as new as its generator; the generator's own requirement says which."""
    try:
        needs = metadata.requires("grpcio-tools") or []
    except metadata.PackageNotFoundError:
        needs = []
    for need in needs:
        if re.match(r"protobuf\b", need):
            return need
    return "protobuf>=4.21"


setup(
    cmdclass={"build_py": BuildWithContract, "sdist": SdistWithContract},
    install_requires=["grpcio>=1.51", protobuf_requirement()],
)
