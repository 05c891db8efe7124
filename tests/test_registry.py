"""The adapter in DVC's model registry: registered, promoted and fetched by version and by stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.core import paths
from tests.support.tiny import ROOT

CONTENT: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")
FILES = {
    *("adapter_config.json", "adapter_model.safetensors", "manifest.json"),
    *("model_config.json", "README.md"),
}


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
