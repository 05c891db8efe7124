"""The adapter in DVC's model registry: registered, promoted and fetched by version and by stage."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.core import paths
from tests.support.small_project import run_successfully
from tests.support.tiny import ROOT

CONTENT: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")
FILES = {
    *("adapter_config.json", "adapter_model.safetensors", "manifest.json"),
    *("model_config.json", "README.md"),
}
DVC = (sys.executable, "-m", "dvc")
GTO = (sys.executable, "-c", "from gto.cli import app; app()")
MAKE = """
import sys
from pathlib import Path
for name in sys.argv[2:]:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(f"{name} of {Path(sys.argv[1]).read_text()}")
"""


def adapters_outputs() -> dict[str, list[str]]:
    """Return what each stage writes into the adapter's folder."""
    found = {}
    for name, stage in CONTENT["stages"].items():
        written = [out for out in stage.get("outs", []) if isinstance(out, str)]
        if inside := [out for out in written if Path(out).parent == paths.ADAPTER]:
            found[name] = inside
    return found


def test_the_artifact_is_the_adapters_folder() -> None:
    artifact = CONTENT["artifacts"]["adapter"]
    assert artifact["path"] == paths.ADAPTER.as_posix()
    assert artifact["type"] == "model"
    assert artifact["desc"]
    assert "lora" in artifact["labels"]
    written = {Path(out).name for outs in adapters_outputs().values() for out in outs}
    assert written == FILES


@pytest.mark.slow
def test_a_version_is_registered_promoted_and_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    monkeypatch.chdir(source)
    run_successfully("git", "init", "-q")
    for key, value in (("user.name", "Test"), ("user.email", "test@example.org")):
        run_successfully("git", "config", key, value)
    run_successfully(*DVC, "init", "-q")
    (source / "make.py").write_text(MAKE, encoding="utf-8")
    stages = {
        name: {
            "cmd": f"python make.py weights.txt {' '.join(outs)}",
            "outs": outs,
            "deps": ["weights.txt"],
        }
        for name, outs in adapters_outputs().items()
    }
    pipeline = {"stages": stages, "artifacts": CONTENT["artifacts"]}
    YAML().dump(pipeline, source / "dvc.yaml")
    run_successfully(*DVC, "remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    for version in ("v1.0.0", "v1.1.0"):
        (source / "weights.txt").write_text(version, encoding="utf-8")
        run_successfully(*DVC, "repro", "-q")
        run_successfully(*DVC, "push", "-q")
        run_successfully("git", "add", "-A")
        run_successfully("git", "commit", "-qm", version)
        run_successfully(*GTO, "register", "adapter", "--version", version)
    run_successfully(*GTO, "assign", "adapter", "--version", "v1.0.0", "--stage", "production")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for wanted, version in (
        (("--rev", "v1.0.0"), "v1.0.0"),
        ((), "v1.1.0"),
        (("--stage", "production"), "v1.0.0"),
    ):
        folder = elsewhere / f"got{len(list(elsewhere.iterdir()))}"
        get = ("artifacts", "get", source.as_uri(), "adapter", *wanted, "-o", str(folder))
        run_successfully(*DVC, *get)
        got = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
        assert set(got) >= FILES
        assert all(got[name].endswith(f" of {version}") for name in FILES)
