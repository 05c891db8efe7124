"""A package index in a folder: wheels, and a catalogue that names them."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from tests.support.model_files import sha256


def wheel(folder: Path, name: str, members: dict[str, bytes]) -> tuple[str, str]:
    """Write a wheel of version 1.0; return its requirement and its sha256."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        for member, content in members.items():
            file.writestr(member, content)
        file.writestr(f"{info}/RECORD", "")
    return f"{name}==1.0", sha256(path.read_bytes())


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is the only place where pip looks for packages."""
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def catalogue(
    folder: Path,
    mirrors: list[dict[str, object]],
    files: dict[str, bytes],
    kind: str = "data",
    **more: object,
) -> Path:
    """Write a catalogue with one entry named `mine`; JSON is YAML."""
    entry = {
        "description": "d",
        "licence": "l",
        "citation": "c",
        "size": 20_000,
        "mirrors": mirrors,
        "files": {name: {"sha256": sha256(c), "size": len(c)} for name, c in files.items()},
        **more,
    }
    path = folder / "catalogue.yaml"
    path.write_text(json.dumps({"models": {}, "data": {}, kind: {"mine": entry}}))
    return path


def mirror(
    *packages: tuple[str, str] | tuple[str, str, str], folder: str = "in"
) -> dict[str, object]:
    """Return a mirror of the catalogue: (requirement, sha256[, part]) of each package."""
    keys = ("requirement", "sha256", "part")
    return {"packages": [dict(zip(keys, p, strict=False)) for p in packages], "folder": folder}
