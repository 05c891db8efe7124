"""The shipped params.yaml with one value changed as it is typed, and values that are refused."""

from __future__ import annotations

from tests.support.tiny import ROOT

SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")
LINES = SHIPPED.splitlines()


def line_of(key: str) -> int:
    """Return the index in LINES of a dotted key."""
    section, _, name = key.rpartition(".")
    start = LINES.index(f"{section}:") if section else 0
    indent = "  " if section else ""
    return next(n for n in range(start, len(LINES)) if LINES[n].startswith(f"{indent}{name}:"))


def with_value(key: str, value: str) -> str:
    """Return the shipped text with another value, as it is typed."""
    lines, at = LINES.copy(), line_of(key)
    lines[at] = f"{lines[at].partition(':')[0]}: {value}"
    return "\n".join(lines) + "\n"


# (key, value as it is typed)
BAD = [
    *(("seed", typed) for typed in ("-1", "4294967296", "1.0", "1e9", "'42'", "true", "null")),
    *(("seed", typed) for typed in (".nan", ".inf", "[42]", "{a: 1}", "0x", "", "~", "1" * 4000)),
    *(("seed", typed) for typed in ("1:30", "0x" + "f" * 5000)),
    *(("data.source", typed) for typed in ("null", "''", "3", "[a]", '"\\e[2J"', '"a\\nb"')),
    *(("data.source", typed) for typed in ('"a\\tb"', '"\\0"', '"\\u202e"', '"\\ud800"')),
    *(("data.source", typed) for typed in ("x" * 1001, '"\\u2028"', '"\\x9b2J"')),
    *(("data.text_column", typed) for typed in ("0", "true", "1e5", "2024-01-01")),
    *(("data.group_column", typed) for typed in ("0", "''", "[a]", '"\\e"')),
    *(("data.header", typed) for typed in ("0", "null", "'no'", "yes")),
    *(("data.label_names", typed) for typed in ("[a]", "5", "''", "[a, 1]", "{a: b}")),
    *(("data.limit", typed) for typed in ("19", "0", "-5", "300.0", "all", "no")),
    *(("data.max_length", typed) for typed in ("7", "8193", "128.0", "null", "long")),
    *(("data.validation_fraction", typed) for typed in ("0", "0.9", "-0.1", ".nan", "10%")),
    *(("data.test_fraction", typed) for typed in ("1", ".inf", "null", "true", "[0.1]")),
    *(("data.on_leak", typed) for typed in ("ignore", "true", "Refuse", "null")),
    *(("data.on_conflict", typed) for typed in ("keep", "1")),
    *(("data.on_incomplete", typed) for typed in ("yes", "[]")),
    *(("data.label_column", typed) for typed in ("0", "[a]", "[a, 0]", "[]", "null", "{a: b}")),
    *(("data.on_rare", typed) for typed in ("keep", "null", "other")),
    *(("data.rare_class", typed) for typed in ("''", "1", "null", '"\\e"')),
    *(("model.source", typed) for typed in ("null", "1", '"\\a"', "{}")),
    *(("data.split_seed", typed) for typed in ("-1", "4294967296", "1.0", "null", "a")),
    *(("tfidf.ngrams", typed) for typed in ("[]", "1", "[0]", "[6]", "[1.5]", "[a]", "null")),
    *(("tfidf.c", typed) for typed in ("[]", "1", "[0]", "[-1]", "[.nan]", "[1e9]", "[a]")),
    *(("train.method", typed) for typed in ("LoRA", "null", "[lora]", "probe", "1")),
    *(("model.pooling", typed) for typed in ("cls", "max", "null", "true")),
    *(("train.ema_decay", typed) for typed in ("1", "-0.1", "off", ".nan", "null")),
    *(("train.select_by", typed) for typed in ("accuracy", "eval_loss", "null", "1")),
    *(("train.attention_dropout", typed) for typed in ("1", "-0.1", "off", ".nan")),
    *(("train.full_learning_rate", typed) for typed in ("0", "-1", "fast", ".nan", "1e9")),
    *(("head.l2", typed) for typed in ("[]", "0.1", "[0]", "[-1]", "[.nan]", "[1e9]", "[a]")),
    *(("lora.r", typed) for typed in ("0", "eight", "1025", "8.0", "1e9", "yes", "[8]")),
    *(("lora.lora_alpha", typed) for typed in ("0", "-1", ".inf", "1e9", "null", "'16'")),
    *(("peft.type", typed) for typed in ("null", "[IA3]", "1", '""')),
    *(("peft.target_modules", typed) for typed in ("query", "[]", "[1]", "null")),
    *(("lora.target_modules", typed) for typed in ("query", "[]", "[1]", "null", '["\\e"]')),
    *(("lora.lora_dropout", typed) for typed in ("1", "-0.1", ".nan", "no")),
    *(("lora.bias", typed) for typed in ("false", "null", "lora")),
    *(("lora.task_type", typed) for typed in ("TOKEN_CLS", "null")),
    *(("lora.inference_mode", typed) for typed in ("no", "yes", "0", "null")),
    *(("lora.use_rslora", typed) for typed in ("on", "'true'")),
    *(("lora.use_dora", typed) for typed in ("1", "yes")),
    *(("lora.init_lora_weights", typed) for typed in ("yes", "kaiming", "1", "false")),
    ("lora.init_lora_weights", "null"),
    *(("lora.modules_to_save", typed) for typed in ("classifier", "[3]", "{}")),
    *(("lora.layers_to_transform", typed) for typed in ("3", "[]", "[-1]", "[a]", "&a [*a]")),
    ("lora.layers_to_transform", "[1.0]"),
    *(("lora.rank_pattern", typed) for typed in ("null", "[]", "{a: 0}", "{a: 1025}", "{1: 2}")),
    ("lora.rank_pattern", "{a: b}"),
    *(("lora.alpha_pattern", typed) for typed in ("{a: 0}", "{a: .nan}", "x", "&a {b: *a}")),
    *(("train.epochs", typed) for typed in ("-1", "1001", "3.0", "three", "null")),
    *(("train.learning_rate", typed) for typed in ("0", "-1", "fast", ".nan", ".inf", "1e9")),
    *(("train.batch_size", typed) for typed in ("0", "4097", "32.0", "null")),
    *(("train.weight_decay", typed) for typed in ("-0.1", "1.1", "none")),
    *(("train.warmup_fraction", typed) for typed in ("1.5", "-1", "6%")),
    *(("train.schedule", typed) for typed in ("step", "null", "Linear")),
    *(("train.max_grad_norm", typed) for typed in ("0", "null", ".inf")),
    *(("train.evaluations", typed) for typed in ("0", "1001", "1.0", "auto")),
    *(("train.start", typed) for typed in ("fitted", "0", "null")),
    *(("train.label_smoothing", typed) for typed in ("1", "-0.1", "null", "auto")),
    *(("train.class_weight", typed) for typed in ("auto", "null", "[1, 2]")),
    *(("train.contrastive", typed) for typed in ("-1", "101", "yes", "null", ".nan")),
    *(("train.patience", typed) for typed in ("-1", "null", "4.0")),
    *(("compute.device", typed) for typed in ("gpu", "null", "0", "cuda:1", "MPS")),
    *(("compute.precision", typed) for typed in ("fp16", "32", "null")),
    *(("compute.threads", typed) for typed in ("0", "1025", "two", "true", "2.0", "null")),
    *(("compute.processes", typed) for typed in ("0", "1025", "all", "true", "2.0", "null", "-1")),
]
