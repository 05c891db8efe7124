"""Which settings and which test rows a result belongs to, as short fingerprints."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from stages.core.params import Params

if TYPE_CHECKING:  # heavy libraries are imported once the params are known to be right
    import pandas as pd


def settings_of(params: Params) -> str:
    """Return 16 hex digits that name the settings which a result hangs on.

    The seed is left out, so that runs which differ in it alone belong together; and so is what
    the method at hand does not read.
    """
    # A key that came later has a default, at which the settings keep the name that they had.
    content = params.model_dump(exclude={"seed", "compute", "tfidf"}, exclude_defaults=True)
    if params.train.method == "full":
        del content["lora"], content["train"]["learning_rate"]
    else:
        del content["train"]["full_learning_rate"]
    return _sha256(json.dumps(content, sort_keys=True))[:16]


def digest_of_rows(predictions: pd.DataFrame) -> str:
    """Return the sha256 of the test rows that the predictions are of: their ids and labels."""
    lines = predictions["id"].str.cat(predictions["label"], sep=",")
    return _sha256("\n".join(sorted(lines)))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
