"""The results as report.html, report.md and model card, each from its template.

The cards of adapter and exports have the form of the Hugging Face Hub: they name base and data as
the Hub does, and no path of this machine.

A text or a label comes from the data and may contain anything: in the page Jinja2 escapes it, in
Markdown `plain` does.
"""

import json
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from stages.core.errors import printable
from stages.core.methods import facts_of
from stages.reporting.answer import (
    SURE_MISTAKES,
    answer,
    facts,
    left_out,
    limits,
    weakest,
)
from stages.reporting.contenders import advice
from stages.reporting.figures import kept_step, svg_of
from stages.reporting.records import curve_advice
from stages.reporting.results import MODELS, Results, between, percent, points, shown_p, step
from stages.sources.catalogue import entries, hub_name, public_name
from stages.training import ROWS_TO_CHOOSE

TEMPLATES = Path(__file__).parent / "templates"
EXAMPLES = 25  # rows of each kind that the page shows

PERCENT = ("accuracy", "calibration_error")
# Key in `details`: what people call it, which way is better, and what it says.
SCORES = {
    "accuracy": ("accuracy", "higher", "rows whose most probable class is the true one"),
    "f1_macro": ("macro F1", "higher", "every class that has test rows weighs the same"),
    "matthews": ("Matthews correlation", "higher", "agreement beyond chance: 0 = none, 1 = all"),
    "roc_auc": ("area under the ROC curve", "higher", "chance that the right row ranks higher"),
    "log_loss": ("log loss (nats)", "lower", "how improbable it finds the true class"),
    "brier": ("Brier score (0 to 2)", "lower", "squared distance of the probabilities"),
    "calibration_error": ("expected calibration error", "lower", "confidence minus accuracy"),
    "temperature": ("temperature, fitted on validation", "1", "what the logits are divided by"),
}

LIBRARIES = ("torch", "transformers", "peft", "datasets", "scikit-learn")
# Of peft.LoraConfig: a card lists only what differs, as a reader knows these.
PEFT_DEFAULTS = {
    **{"r": 8, "lora_alpha": 8, "target_modules": None, "lora_dropout": 0.0, "bias": "none"},
    **{"task_type": "SEQ_CLS", "inference_mode": False, "use_rslora": False, "use_dora": False},
    **{"init_lora_weights": True, "modules_to_save": None, "layers_to_transform": None},
    **{"rank_pattern": {}, "alpha_pattern": {}},
}


def number(value: float | None) -> str:
    """Return a number with three significant digits."""
    if value is None:
        return "-"
    return f"{value:#.3g}".rstrip(".") if 1e-3 <= abs(value) < 1e3 else f"{value:.3g}"


def plain(text: object, limit: int = 80) -> str:
    """Return a text of the data as one line that Markdown shows as it is."""
    line = printable(text, limit)
    return "".join(f"&#{ord(c)};" if c in "\\`*_{}[]<>()#+!|~&@:." else c for c in line)


def report_html(results: Results, drawn: dict[str, Figure]) -> str:
    """Return one HTML page that needs no other file: figures are inside, nothing is loaded.

    Args:
        results: what is shown.
        drawn: the figures, as `figures.draw` returns them.
    """
    svgs = {name: svg_of(figure) for name, figure in drawn.items()}
    findings = {name: figure.get_label() for name, figure in drawn.items()}
    template = environment(autoescape=True).get_template("report.html.j2")
    return template.render(**content_of(results), figures=svgs, findings=findings)


def report_md(results: Results) -> str:
    """Return a short report for a pull request: GitHub Markdown, without a text of the data."""
    template = environment(autoescape=False).get_template("report.md.j2")
    return template.render(**content_of(results))


def environment(autoescape: bool) -> Environment:
    """Return the templates; `autoescape` is for HTML, Markdown uses the filter `plain`."""
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
        "between": lambda pair: between(*pair),
        "step": lambda pair: step(*pair),
        "number": number,
        "shown": printable,
        "plain": plain,
        "p": shown_p,
        "one": lambda value: f"{value:.1f}",
    }
    return environment


def content_of(results: Results) -> dict[str, Any]:
    """Return the values that every template may use."""
    params, details = results.params, results.details
    f1 = details["adapter"]["by_class"]
    classes = [group for group in results.groups if group[0] == "class"]
    others = results.groups[len(classes) :]
    base = public_name(params.model.source, "models")
    source = params.data.source
    if source != public_name(source, "data"):
        source = Path(source).name  # but not where it lies
    flips = results.flips
    examples = {change: flips[flips["change"] == change] for change in ("fixed", "broken")}
    examples["suspects"] = results.suspects
    answered = [results.curves[f"answered_{model}"].to_dict("records") for model in MODELS]
    return {
        "r": results,
        "gain": results.gain,
        "over_tfidf": results.over_tfidf,
        "base": base,
        "source": source,
        "ladder": results.ladder[::-1].to_dict("records"),
        "answers": answer(results),
        "plain_answers": answer(results, plain),
        "limits": limits(results),
        "sure": SURE_MISTAKES,
        "facts": facts(results, base, source),
        "left_out": left_out(results.data),
        "curve_advice": curve_advice(results.curve) if len(results.curve) else "",
        "methods_advice": advice(results.contenders),
        "scores": [
            (*words, *((percent if key in PERCENT else number)(details[m][key]) for m in MODELS))
            for key, words in SCORES.items()
        ],
        "groups": [*sorted(classes, key=lambda of: f1[of[1]]["f1"]), *others],
        "confused": results.confused.to_dict("records"),
        "answered": list(zip(*answered, strict=True)),
        "kept_step": kept_step(results),
        "chosen_by_validation": results.data["rows_validation"] >= ROWS_TO_CHOOSE,
        "examples": {name: of[:EXAMPLES].to_dict("records") for name, of in examples.items()},
        "settings": {
            f"{section}.{key}": json.dumps(value, ensure_ascii=False)
            for section, fields in params.model_dump(exclude={"seed", "search"}).items()
            for key, value in fields.items()
        },
        "method": facts_of(params),
    }


def model_card(results: Results) -> str:
    """Return the model card of the adapter."""
    params, scores = results.params, results.details["adapter"]
    content, data = content_of(results), public_name(params.data.source, "data")
    on_hub = (hub_name(params.data.source, "data") or "").partition("@")[0]
    lora = params.lora.model_dump()
    same = {f"lora.{key}" for key, value in lora.items() if value == PEFT_DEFAULTS.get(key)}
    unread = (*facts_of(params).unread, "compute.", "data.", "head.", "tfidf.", "model.source")
    settings = {
        key: value
        for key, value in content["settings"].items()
        if key not in same and not key.startswith(unread)
    }
    return environment(autoescape=False).get_template("card.md.j2").render(
        content
        | {
            "settings": settings | {"seed": str(params.seed)},
            "head": _head(
                facts_of(params).library,
                params.model.source,
                [params.train.method, "text-classification", "bert-lora-dvc", "dvc"],
                (data, on_hub or data.replace(" ", "-")),
                {"accuracy": scores["accuracy"], "f1": scores["f1_macro"]},
                [on_hub] if on_hub else None,
            ),
            "base_on_hub": hub_name(params.model.source, "models"),
            "source": data,
            "known": entries("data").get(params.data.source),
            "libraries": {name: version(name) for name in LIBRARIES},
            "weakest": weakest(results, plain),
        }
    )  # fmt: skip


def export_card(record: dict[str, Any], name: str) -> str:
    """Return the card of an exported folder.

    Args:
        record: what export.json says, its check included.
        name: of the folder.
    """
    templates = environment(autoescape=False)
    templates.filters |= {
        "shell": lambda value: shlex.quote(printable(value, 200)),
        "python": lambda value: ascii(str(value)),
    }
    head = _head(
        "transformers" if record["format"] == "merged" else "onnx",
        record["base_source"],
        ["text-classification", "bert-lora-dvc", record["format"], record["precision"]],
        ("test rows", "test-rows"),
        {"accuracy": record["check"]["accuracy"]},
    )
    template = templates.get_template("export.md.j2")
    return template.render(r=record, check=record["check"], name=name, head=head)


def _head(
    library: str | None,
    base: str,
    tags: list[str],
    rows: tuple[str, str],
    metrics: dict[str, float],
    datasets: list[str] | None = None,
) -> str:
    """Return a card's YAML head, with the base and its licence where the Hub knows them.

    Args:
        library: that loads the files, as the Hub names it.
        base: the model's source.
        tags: the Hub's.
        rows: name and type of the rows that the metrics are of.
        metrics: values by the Hub's name of each.
        datasets: the Hub's names of the data.
    """
    known, on_hub = entries("models").get(base), hub_name(base, "models")
    return ModelCardData(
        library_name=library,
        base_model=on_hub.partition("@")[0] if on_hub else None,
        license=known.licence.lower() if known else None,  # the Hub's are in small letters
        pipeline_tag="text-classification",
        tags=tags,
        metrics=list(metrics),
        datasets=datasets,
        model_name="bert-lora-dvc",
        eval_results=[
            EvalResult("text-classification", rows[1], rows[0], name, round(value, 6))
            for name, value in metrics.items()
        ],
    ).to_yaml()
