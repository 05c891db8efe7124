"""An exported folder that answers as `predictor.Predictor` does; without torch where it is ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stages.core.params import ComputeParams
from stages.running.run import threads_of
from stages.serving.exported import open_scorer
from stages.serving.scorer import Probabilities, Scorer, probabilities_of


@dataclass(frozen=True)
class ExportPredictor:
    """A scorer that is ready to answer.

    Attributes:
        scorer: of the exported folder.
    """

    scorer: Scorer

    @classmethod
    def load(cls, folder: Path, compute: ComputeParams) -> ExportPredictor:
        """Return the predictor of a folder that `bert-lora export` wrote.

        Raises:
            HostError: if there is no such folder, or ONNX Runtime is not installed.
            ModelError: if the folder is damaged or no export.
        """
        return cls(open_scorer(folder, threads_of(compute)))

    @property
    def labels(self) -> list[str]:
        """Class names in the order of the probabilities."""
        return self.scorer.labels

    @property
    def tokens_read(self) -> int:
        """How many tokens of a text are read at most."""
        return self.scorer.max_length

    def probabilities(self, texts: list[str]) -> Probabilities:
        """Return the probabilities, shape (texts, classes), as the adapter's are."""
        return probabilities_of(self.scorer.score(texts))

    def count_cut(self, texts: list[str]) -> int:
        """Return how many texts have more tokens than are read."""
        return sum(length > self.tokens_read for length in self.scorer.lengths(texts))
