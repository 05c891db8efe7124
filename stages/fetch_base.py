"""Stage fetch_base: model source -> the foundation model and its tokenizer in models/base."""

import shutil
import tempfile
from pathlib import Path

from stages.core.artefacts import replacing
from stages.core.errors import printable
from stages.core.params import Params
from stages.core.paths import BASE_MODEL
from stages.sources.locate import locate_model


def fetch_base(params: Params) -> None:
    """Copy the files of `model.source`, unchanged and no others, to models/base.

    Raises:
        ParamsError: if the source names nothing.
        ModelError: if a file does not have its hash, or the model cannot be used safely.
        HostError: if the source cannot be fetched.
    """
    with tempfile.TemporaryDirectory() as fetched:
        model = locate_model(params.model.source, Path(fetched))
        with replacing(BASE_MODEL) as folder:
            folder.mkdir()
            for name, path in sorted(model.files.items()):
                shutil.copyfile(path, folder / name)
    for notice in model.notices:
        print(f"{printable(params.model.source)}: {notice}")
    megabytes = sum(file.stat().st_size for file in BASE_MODEL.iterdir()) / 1e6
    print(f"{BASE_MODEL}: {model.origin}, {len(model.files)} files, {megabytes:.1f} MB")
