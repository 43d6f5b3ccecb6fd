"""Makes `import parley` work from a checkout: the contract's code is generated into build/python first."""

import importlib.util
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
ROOT = PACKAGE.parent.parent


def _prepare() -> None:
    spec = importlib.util.spec_from_file_location("parley_generate", PACKAGE / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    generate.generate(ROOT / "build" / "python")
    sys.path[:0] = [str(PACKAGE), str(ROOT / "build" / "python")]


try:
    import parley  # noqa: F401  (installed, or on PYTHONPATH)
except ModuleNotFoundError:
    _prepare()
