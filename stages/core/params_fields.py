"""The kinds of values in params.yaml, each with its limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


def _only_true(value: bool) -> bool:
    if not value:
        raise PydanticCustomError("only_true", "false is not offered")
    return value


OnlyTrue = Annotated[bool, AfterValidator(_only_true)]
Layers = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
OnFault = Literal["refuse", "drop"]
Fraction = Annotated[float, Field(gt=0, lt=0.9)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
# No control character, line separator or direction override: a name is shown to people.
PLAIN = r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+$"
Name = Annotated[str, Field(min_length=1, max_length=1000, pattern=PLAIN)]


def field(expected: str, example: Any, **limits: Any) -> Any:
    """Return a required field whose error reads "expected {expected}" with an example."""
    return Field(description=expected, examples=[example], **limits)


class Section(BaseModel):
    """A part of params.yaml: strict types, no unknown key, immutable."""

    # guard: unknown key
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
