"""All that a running server has: models, limits, meters and the thread that computes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import partial

from stages.serving.http import schema
from stages.serving.http.answers import Question, Scored, score
from stages.serving.http.batching import Batcher
from stages.serving.http.envelope import State
from stages.serving.http.limits import Limits
from stages.serving.http.meters import Meters
from stages.serving.scorer import Scorer
from stages.serving.served import Served


@dataclass
class Service:
    """All that a running server has.

    Args:
        served: what answers.
        limits: how much a client may ask for.
        examples: rows `fixed` and `broken`, to be shown on the page.
        hosts: names that requests may give the server; None allows any.
    """

    served: Served
    limits: Limits = field(default_factory=Limits)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    hosts: frozenset[str] | None = None
    state: State = field(default_factory=State)
    meters: Meters = field(default_factory=Meters)
    batcher: Batcher[Question, Scored] = field(init=False)

    def __post_init__(self) -> None:
        self.batcher = Batcher(
            partial(score, self.served), self.limits.batch, self.limits.waiting, self.meters.batch
        )
        self.meters.watch(lambda: self.batcher.waiting)
        self.meters.set_model(self.served.model.description, self.served.model.sha256)

    def info(self) -> schema.Info:
        """Return what is served."""

        def about(scorer: Scorer) -> schema.ModelInfo:
            return schema.ModelInfo.model_validate(scorer, from_attributes=True)

        explainer = self.served.explainers.get("model")
        return schema.Info(
            model=about(self.served.model),
            base=about(self.served.base) if self.served.base else None,
            files=self.served.files,
            facts=self.served.facts,
            tolerance=self.served.tolerance,
            explained_by=explainer.method if explainer else None,
            limits=asdict(self.limits),
        )
