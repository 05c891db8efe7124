"""The results as report.html, report.md and the model card, each from its template.

A text or a label comes from the data and may hold anything: in the page Jinja2 escapes it, in
Markdown `plain` does, in the card's head it is quoted as JSON, which is YAML too.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.artefacts import replacing
from stages.core.errors import printable
from stages.reporting import figures
from stages.reporting.results import MODELS, Results
from stages.scoring.significance import shown_p

if TYPE_CHECKING:  # heavy libraries are imported once the params are known to be right
    from jinja2 import Environment
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent / "templates"
EXAMPLES = 25  # rows of each kind that the page shows
SHOWN = 160  # characters of a text
LIBRARIES = ("torch", "transformers", "peft", "datasets", "scikit-learn")

# Key in `details`, what people call it, its unit, and which way is better.
SCORES = [
    ("accuracy", "accuracy", "percent", "higher"),
    ("accuracy_at_90", "accuracy on the surest 90 % of the rows", "percent", "higher"),
    ("accuracy_at_80", "accuracy on the surest 80 % of the rows", "percent", "higher"),
    ("f1_macro", "macro F1", "number", "higher"),
    ("matthews", "Matthews correlation", "number", "higher"),
    ("roc_auc", "area under the ROC curve", "number", "higher"),
    ("log_loss", "log loss (nats)", "number", "lower"),
    ("log_loss_scaled", "log loss after temperature scaling", "number", "lower"),
    ("brier", "Brier score (0 to 2)", "number", "lower"),
    ("brier_scaled", "Brier score after temperature scaling", "number", "lower"),
    ("calibration_error", "expected calibration error", "percent", "lower"),
    ("calibration_error_scaled", "the same after temperature scaling", "percent", "lower"),
    ("temperature", "temperature fitted on validation", "number", "1"),
]
ABOUT = {  # what a score says, in a few words
    "accuracy": "rows whose most probable class is the true one",
    "accuracy_at_90": "if it may pass on the 10 % it is least sure of",
    "accuracy_at_80": "the same with 20 %",
    "f1_macro": "precision and recall, every class weighing the same",
    "matthews": "agreement beyond chance: 0 = none, 1 = all",
    "roc_auc": "chance that the right one of two rows ranks higher",
    "log_loss": "how improbable it finds the true class",
    "brier": "squared distance of the probabilities from the truth",
    "calibration_error": "how far confidence is from accuracy",
    "temperature": "above 1 = surer than right, below 1 = less sure",
}
SCALED = "with confidence mended on validation rows"


def percent(share: float | None) -> str:
    """Return a share as a percentage with one decimal."""
    return "-" if share is None else f"{100 * share:.1f} %"


def points(share: float) -> str:
    """Return a difference of two shares in points, with its sign and one decimal."""
    return f"{100 * share + 0.0:+.1f}"


def number(value: float | None) -> str:
    """Return a number with three significant digits."""
    if value is None:
        return "-"
    return f"{value:#.3g}".rstrip(".") if 1e-3 <= abs(value) < 1e3 else f"{value:.3g}"


def shown(text: object, limit: int = SHOWN) -> str:
    """Return a text of the data as one safe line."""
    return printable(text, limit)


def plain(text: object, limit: int = 80) -> str:
    """Return a text of the data as one line that Markdown shows as it is."""
    line = printable(text, limit)
    return "".join(f"&#{ord(c)};" if c in "\\`*_{}[]<>()#+!|~&@:." else c for c in line)


def write_page(results: Results, drawn: dict[str, Figure], path: Path) -> None:
    """Write one HTML file that needs no other: figures are inside, nothing is loaded.

    Args:
        results: all that there is to show.
        drawn: the figures, as `figures.draw` returns them.
        path: the file, replaced whole.
    """
    from markupsafe import Markup

    svgs = {name: Markup(figures.svg_of(figure)) for name, figure in drawn.items()}  # noqa: S704  # matplotlib escapes the labels
    text = _environment(autoescape=True).get_template("report.html.j2").render(
        **_content(results), figures=svgs
    )  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def report_md(results: Results) -> str:
    """Return a short report for a pull request: GitHub Markdown, without a text of the data."""
    template = _environment(autoescape=False).get_template("report.md.j2")
    return template.render(**_content(results))


def model_card(results: Results) -> str:
    """Return the model card of the adapter in the form of the Hugging Face Hub."""
    template = _environment(autoescape=False).get_template("card.md.j2")
    libraries = {name: version(name) for name in LIBRARIES}
    return template.render(**_content(results), head=_card_head(results), libraries=libraries)


def _environment(autoescape: bool) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=autoescape,  # noqa: S701  # off for Markdown alone, see `plain`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": percent,
        "points": points,
        "number": number,
        "shown": shown,
        "plain": plain,
        "p": shown_p,
        "one": lambda value: f"{value:.1f}",
    }
    return environment


def _content(results: Results) -> dict[str, Any]:
    """Return what every template may name."""
    flips, params = results.flips, results.params
    of = {change: flips.rows[flips.rows["change"] == change] for change in ("fixed", "broken")}
    return {
        "r": results,
        "gain": results.gain,
        "models": MODELS,
        "scores": [
            (name, better, about, *(_score(results.details[m][key], unit) for m in MODELS))
            for key, name, unit, better in SCORES
            for about in [ABOUT.get(key, SCALED)]
        ],
        "examples": {
            **{change: rows[:EXAMPLES].to_dict("records") for change, rows in of.items()},
            "suspects": flips.suspects[:EXAMPLES].to_dict("records"),
        },
        "rated": "rating" in flips.rows,
        "settings": {
            f"{section}.{key}": json.dumps(value, ensure_ascii=False)
            for section, fields in params.model_dump(exclude={"seed"}).items()
            for key, value in fields.items()
        },
        "trained": "LoRA" if params.train.method == "lora" else "full fine-tuning",
        "flip_count": {change: len(rows) for change, rows in of.items()},
    }


def _score(value: float | None, unit: str) -> str:
    return percent(value) if unit == "percent" else number(value)


def _card_head(results: Results) -> str:
    """Return the card's YAML head; JSON values are YAML, whatever a label holds."""
    params, details = results.params, results.details["adapter"]
    library = {"library_name": "peft"} if params.train.method == "lora" else {}
    head = library | {
        "base_model": params.model.source.split("@")[0],  # the Hub wants no revision here
        "pipeline_tag": "text-classification",
        "tags": [params.train.method, "text-classification", "dvc"],
        "metrics": ["accuracy", "f1"],
        "model-index": [
            {
                "name": "bert-lora-dvc adapter",
                "results": [
                    {
                        "task": {"type": "text-classification"},
                        "dataset": {"name": params.data.source, "type": params.data.source},
                        "metrics": [
                            {"type": "accuracy", "value": round(details["accuracy"], 6)},
                            {"type": "f1", "value": round(details["f1_macro"], 6)},
                        ],
                    }
                ],
            }
        ],
    }
    return "\n".join(f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in head.items())
