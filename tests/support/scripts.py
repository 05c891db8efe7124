"""The scripts of .ci, which are not a package."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from tests.support.tiny import ROOT


def load_script(name: str) -> ModuleType:
    """Return a script of .ci as a module, without running its main part."""
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / f".ci/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look it up
    spec.loader.exec_module(module)
    return module
