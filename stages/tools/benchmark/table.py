"""The benchmark's results as a Markdown table."""

from __future__ import annotations

import statistics
from typing import Any

NAMES = {
    "tutorial": "PEFT and Trainer as tutorials do it: padded to max_length, fp32, random batches",
    "tuned": "PEFT and Trainer, tuned: dynamic padding, batches of similar length, bf16",
    "adapters": "the AdapterHub library with LoRA, tuned too, in an environment of its own",
    "full": "full fine-tuning with the tuned Trainer",
    "ours": "this pipeline's own code path",
}


def _shares(values: list[float]) -> str:
    """Return the mean of shares, with the smallest and the largest where there are several."""
    mean = f"{100 * statistics.mean(values):.1f} %"
    if len(values) == 1:
        return mean
    return f"{mean} ({100 * min(values):.1f} to {100 * max(values):.1f})"


def _seconds(values: list[float | None]) -> str:
    return " / ".join("never" if value is None else f"{value:.0f}" for value in values)


def table_of(results: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        f"| {results['precision']}, {results['multiplication_gflops']:.0f} GFLOP/s in matrix "
        "products | rows a second | times *tutorial* | times *tuned* | share of the limit |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for what in ("training", "scoring"):
        for name in NAMES:
            if (speeds := results[what].get(name)) is None:
                continue
            ratios = [speeds[f"to_{peer}"] for peer in ("tutorial", "tuned")]
            shown = [f"{r['median']:.1f} ({r['low']:.1f} to {r['high']:.1f})" for r in ratios]
            lines.append(
                f"| {what}: *{name}* | {speeds['median']:.0f} | {shown[0]} | {shown[1]} "
                f"| {100 * speeds['share_of_limit']:.0f} % |"
            )
    if accuracy := results.get("accuracy"):
        by_name = accuracy["validation"]
        seeds = max(len(values) for values in by_name.values())
        shown = [f"*{name}* {_shares(values)}" for name, values in sorted(by_name.items())]
        over = f"the mean of {seeds} seeds" if seeds > 1 else "one seed"
        lines += [
            "",
            f"Validation accuracy after all epochs in {accuracy['precision']}, {over}: "
            f"{', '.join(shown)}.",
        ]
        timed = [
            f"*{name}* {_seconds(values)}"
            for name, values in sorted(accuracy.get("seconds_to_target", {}).items())
            if name != "adapters"  # it is not scored on the way
        ]
        if timed:
            lines += ["", f"Seconds of training until it is 85 %, by seed: {', '.join(timed)}."]
    return "\n".join(lines)
