"""Which words carried an answer: integrated gradients, or occlusion where there are no gradients.

What is explained is the log-odds of the answer, log(p / (1 - p)) of its class: unlike a
probability they do not saturate, and with two classes they are the difference of the logits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from stages.serving.scorer import Scorer

if TYPE_CHECKING:  # ONNX needs no torch
    from torch import Tensor

    from stages.model.classifier import Classifier

# A word, or one character of a script that is written without spaces.
UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
MOST_WORDS = 300
STEPS = (32, 128)  # of the integral; the second where the first leaves a larger error than
GOOD_ERROR = 0.02  # as a share of the total
TOKENS_AT_ONCE = 2048  # of the interpolated copies of a text; gradients take memory


@dataclass(frozen=True)
class Explanation:
    """What each word adds to the log-odds of the answer.

    Attributes:
        target: number of the class that is explained, the likeliest one.
        words: start, end (characters) and score of each word.
        special: score of the tokens outside the text.
        total: log-odds of the text minus those of the baseline.
    """

    target: int
    words: list[tuple[int, int, float]]
    special: float
    total: float

    @property
    def error(self) -> float:
        """The completeness error: what the scores sum to, minus what they should."""
        return sum(score for _, _, score in self.words) + self.special - self.total


class Explainer(Protocol):
    """Explains the answers of one model.

    Attributes:
        method: what it does, for people.
    """

    method: str

    def explain(self, text: str) -> Explanation:
        """Return what each word of a text that is not empty adds to its answer."""
        ...


class Gradients:
    """Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) by captum.

    They are taken on the word embeddings, from a baseline in which each token of the text is the
    padding token, and summed over the tokens of a word.

    Args:
        load: returns the classifier in float32 without speed-ups, and where it runs; called at the
            first explanation.
        max_length: tokens that are read of a text.
    """

    method = "integrated gradients on the word embeddings (captum), baseline: padding tokens"

    def __init__(self, load: Callable[[], tuple[Classifier, Any]], max_length: int) -> None:
        self._load, self._max_length = load, max_length
        self._loaded: tuple[Classifier, Any] | None = None

    def explain(self, text: str) -> Explanation:
        """Return what each word adds to the log-odds of the answer."""
        import torch
        from captum.attr import LayerIntegratedGradients

        if self._loaded is None:
            self._loaded = self._load()
        classifier, place = self._loaded
        tokenizer, model = classifier.tokenizer, classifier.model
        encoded = tokenizer(
            [text],
            truncation=True,
            max_length=self._max_length,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_tensors="pt",
        )
        ids, mask = encoded["input_ids"].to(place), encoded["attention_mask"].to(place)
        special = encoded["special_tokens_mask"].bool().to(place)
        baseline = torch.where(special, ids, tokenizer.pad_token_id)

        def logits(ids: Tensor, mask: Tensor) -> Tensor:
            result: Tensor = model(input_ids=ids, attention_mask=mask).logits.float()
            return result

        with torch.no_grad():
            target = int(logits(ids, mask)[0].argmax())

        def log_odds(ids: Tensor, mask: Tensor) -> Tensor:
            rows = logits(ids, mask)
            others = torch.cat([rows[:, :target], rows[:, target + 1 :]], dim=1)
            return rows[:, target] - others.logsumexp(dim=1)

        with torch.no_grad():
            total = float(log_odds(ids, mask) - log_odds_at(model, log_odds, ids, baseline, mask))
        integrated = LayerIntegratedGradients(log_odds, model.get_input_embeddings())
        for steps in STEPS:
            scores = (
                integrated.attribute(
                    ids,
                    baselines=baseline,
                    additional_forward_args=(mask,),
                    n_steps=steps,
                    internal_batch_size=max(1, TOKENS_AT_ONCE // ids.shape[1]),
                )
                .sum(dim=-1)[0]
                .double()
                .cpu()
            )
            if abs(float(scores.sum()) - total) <= GOOD_ERROR * abs(total):
                break
        words, rest = by_word(text, encoded["offset_mapping"][0].tolist(), scores.tolist())
        return Explanation(target, words, rest, total)


def log_odds_at(
    model: Any, log_odds: Callable[..., Tensor], ids: Tensor, baseline: Tensor, mask: Tensor
) -> Tensor:
    """Return the log-odds with the baseline's word embeddings and all else as for the text."""
    embeddings = model.get_input_embeddings()
    other = embeddings(baseline)
    hook = embeddings.register_forward_hook(lambda *_: other)
    try:
        return log_odds(ids, mask)
    finally:
        hook.remove()


def by_word(
    text: str, offsets: Sequence[Sequence[int]], scores: Sequence[float]
) -> tuple[list[tuple[int, int, float]], float]:
    """Return start, end and score of each word that was read, and the score of all other tokens.

    Args:
        text: the text.
        offsets: start and end of each token, in characters; equal ones are outside the text.
        scores: of each token.
    """
    spans = [match.span() for match in WORD.finditer(text)]
    sums: dict[int, float] = {}
    rest, at = 0.0, 0
    for (start, end), score in zip(offsets, scores, strict=True):
        while at < len(spans) and spans[at][1] <= start:
            at += 1
        # A token may begin with the space before its word.
        if start == end or at == len(spans) or end <= spans[at][0]:
            rest += score
        else:
            sums[at] = sums.get(at, 0.0) + score
    return [(*spans[number], score) for number, score in sorted(sums.items())], rest


class Occlusion:
    """Leave out one word at a time, and see how the log-odds of the answer change.

    Args:
        scorer: the model.
    """

    method = "occlusion: the text without each word in turn"

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def explain(self, text: str) -> Explanation:
        """Return by how much the log-odds fall without each word."""
        spans = [match.span() for match in WORD.finditer(text)]
        without = [text[:start] + text[end:] for start, end in spans]
        # All words left out together is the baseline: what remains is white space.
        logits = self._scorer.score([text, "", *without]).astype(np.float64)
        target = int(logits[0].argmax())
        odds = log_odds_of(logits, target)
        words = [
            (*span, float(odds[0] - score)) for span, score in zip(spans, odds[2:], strict=True)
        ]
        return Explanation(target, words, 0.0, float(odds[0] - odds[1]))


def log_odds_of(logits: np.ndarray[Any, Any], target: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return log(p / (1 - p)) of the class `target`, shape (texts,)."""
    others = np.delete(logits.astype(np.float64), target, axis=1)
    result: np.ndarray[Any, np.dtype[np.float64]] = logits[:, target] - np.logaddexp.reduce(
        others, axis=1
    )
    return result


def count_words(text: str) -> int:
    """Return how many words an explanation of the text would have."""
    return sum(1 for _ in WORD.finditer(text))
