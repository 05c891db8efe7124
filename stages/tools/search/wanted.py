"""What the user wants of a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.core.params import Params
from stages.tools.search.space import Entry


@dataclass(frozen=True)
class Search:
    """What the user wants, checked.

    Attributes:
        params: the settings that the space changes; the search's own seed is theirs.
        entries: range or choices by the param's path, as they were written.
        space: the same, checked.
        trials: how many trials the study shall have.
        at_most: how many of them this call may add; None for all.
        minutes: when to stop; None for no limit.
        workers: processes that train at once.
        storage: see `study.open_storage`.
        study: the study's name, None for one that follows from its inputs.
        top: how many settings of the search are trained again, besides the defaults.
        seeds: how many further seeds each of them gets.
    """

    params: Params
    entries: dict[str, Any]
    space: tuple[Entry, ...]
    trials: int
    at_most: int | None
    minutes: float | None
    workers: int
    storage: str | None
    study: str | None
    top: int
    seeds: int

    @property
    def final_seeds(self) -> list[int]:
        """The seeds of the finals; the search's own seed is none of them."""
        return [(self.params.seed + place) % 2**32 for place in range(1, self.seeds + 1)]
