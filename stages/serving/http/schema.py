"""Requests and answers as types: what is checked, and what the OpenAPI schema says."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


class Request(BaseModel):
    """What a client sends: strict types, no unknown key."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class PredictRequest(Request):
    """One text, or many."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "A quiet, lovely film.", "with_base": True}]}
    )

    text: str | None = Field(None, description="One text; give this or texts.")
    # The first fault ends the check: a megabyte of numbers would have a report of many megabytes.
    texts: list[str] = Field([], fail_fast=True, description="Many texts.")
    all: bool = Field(False, description="Add the probability of every class.")
    with_base: bool = Field(False, description="Add what the base model answers.")
    calibrated: bool = Field(
        True,
        description="Divide the logits by the temperature that was fitted on validation; "
        "false gives the probabilities of `bert-lora predict`. The labels are the same.",
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.text is None) == ("texts" not in self.model_fields_set):
            raise PydanticCustomError("one_of_two", "give either text or texts")
        return self

    def all_texts(self) -> list[str]:
        """Return the texts, in order."""
        return [self.text] if self.text is not None else self.texts


class ExplainRequest(Request):
    """The text whose answer is to be explained."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "A quiet, lovely film."}]})

    text: str = Field(description="The text.")


class Prediction(BaseModel):
    """What one model answers."""

    label: str = Field(description="The likeliest class.")
    probability: float = Field(description="Its probability, from 0 to 1.")
    probabilities: dict[str, float] | None = Field(None, description="Of every class, on request.")


class Answer(Prediction):
    """The answer to one text."""

    cut: bool | None = Field(None, description="True: the text is longer than what is read of it.")
    base: Prediction | None = Field(None, description="What the base model answers, on request.")


class PredictResponse(BaseModel):
    """An answer to each text, in the order of the texts."""

    answers: list[Answer]


class WordScore(BaseModel):
    """What a word adds to the answer."""

    start: int = Field(description="Where it begins in the text, in characters.")
    end: int = Field(description="Where it ends.")
    score: float = Field(description="What it adds to the log-odds of the label.")


class ExplainedAnswer(BaseModel):
    """Which words carried the answer of one model."""

    label: str = Field(description="The answer that is explained.")
    words: list[WordScore]
    special: float = Field(description="What tokens outside the text add, such as [CLS].")
    total: float = Field(description="Log-odds of the text minus those of the baseline.")
    error: float = Field(description="Completeness error: sum of the scores minus total.")


class ExplainResponse(BaseModel):
    """Which words carried the answer, for the model and for the base where it is served."""

    method: str
    model: ExplainedAnswer
    base: ExplainedAnswer | None = None


class Example(BaseModel):
    """A test row that base and adapter answer differently."""

    text: str
    label: str = Field(description="The true one.")
    base: str
    adapter: str


class Examples(BaseModel):
    """Rows of the last comparison that only the adapter has right, and only the base."""

    fixed: list[Example]
    broken: list[Example]


class ModelInfo(BaseModel):
    """What answers."""

    description: str
    labels: list[str]
    max_length: int = Field(description="Tokens that are read of a text.")
    temperature: float
    sha256: str = Field(description="Of its weights.")


class Info(BaseModel):
    """What is served."""

    model: ModelInfo
    base: ModelInfo | None
    files: dict[str, str] = Field(description="The sha256 of each file that answers depend on.")
    facts: dict[str, str] = Field(description="Device, precision, threads, versions.")
    tolerance: float = Field(
        description="By how much a probability may differ from that of another batch."
    )
    explained_by: str | None = Field(description="The method of /explain.")
    limits: dict[str, int | float]


class Status(BaseModel):
    """Whether the server is alive, or ready."""

    status: str


class Refusal(BaseModel):
    """Why there is no answer, and what to do about it."""

    error: str
    fix: str
