"""params.yaml: what is read from it, and how each way to spoil it is named."""

from __future__ import annotations

import re
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from stages.core.errors import ParamsError
from stages.core.params import Params, load_params
from tests.support.bad_params import BAD, LINES, SHIPPED, line_of, with_value

FILE = Path("params.yaml")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def keys_of(model: type[BaseModel] = Params, prefix: str = "") -> list[str]:
    """Return the dotted name of every value in the schema that a stage may read."""
    names = []
    for name, field in model.model_fields.items():
        if name == "search":
            continue
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += keys_of(kind, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


# What the key meant before there was one.
OLDER_FILES_LACK = {
    "peft.type": "IA3",
    "peft.target_modules": "auto",
    "data.group_column": None,
    "data.header": True,
    "data.label_names": None,
    "data.on_rare": "refuse",
    "data.rare_class": "other",
    "model.pooling": "auto",
    "train.attention_dropout": 0.0,
    "train.class_weight": "none",
    "train.ema_decay": 0.0,
    "train.select_by": "loss",
    "compute.processes": 1,
}


def without(key: str) -> str:
    return "\n".join(LINES[: line_of(key)] + LINES[line_of(key) + 1 :]) + "\n"


def inserted(key: str, line: str) -> str:
    """Return the shipped text with a line above that of a key."""
    return "\n".join([*LINES[: line_of(key)], line, *LINES[line_of(key) :]]) + "\n"


def load(text: str | bytes) -> Params:
    FILE.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_params(FILE)


def faults(text: str | bytes) -> list[str]:
    """Return the lines of the error, each checked for its form."""
    with pytest.raises(ParamsError) as caught:
        load(text)
    lines = str(caught.value).split("\n")
    for line in lines:
        assert re.match(r"error: params\.yaml(:\d+)*: ", line)
        assert ". Fix: " in line or "? Fix: " in line
        assert line.isprintable()
        assert len(line) < 1000
    return lines


def test_the_shipped_file_is_read_as_it_stands() -> None:
    content = YAML(typ="safe", pure=True).load(SHIPPED)
    assert load(SHIPPED).model_dump() == content


def test_the_shipped_file_holds_the_keys_of_the_schema_in_its_order() -> None:
    content = YAML(typ="safe", pure=True).load(SHIPPED)
    there = [
        f"{section}.{key}" if isinstance(value, dict) else section
        for section, value in content.items()
        for key in (value if isinstance(value, dict) and section != "search" else [""])
    ]
    assert there == [*keys_of(), "search."]


@pytest.mark.parametrize("typed", ["null", "[]", "{lora.r: 8}", "{lora.r: [8]}", "1", "{1: {}}"])
def test_a_search_that_is_no_mapping_of_mappings_is_named_with_its_line(typed: str) -> None:
    before = SHIPPED.partition("search:")[0]
    (fault,) = faults(f"{before}search: {typed}\n")
    assert f"params.yaml:{before.count(chr(10)) + 1}: search" in fault


@pytest.mark.parametrize("key", keys_of())
def test_every_key_has_a_comment_above_it(key: str) -> None:
    comment = LINES[line_of(key) - 1].strip()
    assert comment.startswith("# ")
    assert len(comment) > 10


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("train.learning_rate", "1e-5", 1e-5),
        ("train.learning_rate", "2e-05", 2e-5),
        ("train.learning_rate", "1.5E-3", 1.5e-3),
        ("train.learning_rate", "1", 1.0),
        ("train.epochs", "0", 0),
        ("seed", "010", 10),
        ("seed", "0o10", 8),
        ("data.limit", "0100", 100),
        ("data.limit", "20", 20),
        ("data.limit", "null", None),
        ("data.source", "'no'", "no"),
        ("data.source", "no", "no"),
        ("data.text_column", "Größe (cm)", "Größe (cm)"),
        ("compute.threads", "2", 2),
        ("lora.target_modules", "[query, value]", ["query", "value"]),
        ("lora.init_lora_weights", "pissa", "pissa"),
        ("lora.layers_to_transform", "[3, 4]", [3, 4]),
        ("lora.rank_pattern", "{layer.5.attention.self.value: 64}", None),
        ("head.l2", "[1e-3]", [1e-3]),
    ],
)
def test_values_are_read_as_yaml_1_2(key: str, typed: str, value: Any) -> None:
    expected = {"layer.5.attention.self.value": 64} if key == "lora.rank_pattern" else value
    got = attrgetter(key)(load(with_value(key, typed)))
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize("change", ["\ufeff" + SHIPPED, SHIPPED.replace("\n", "\r\n"), "---\n"])
def test_a_mark_crlf_and_a_document_start_change_nothing(change: str) -> None:
    assert load(change if change != "---\n" else change + SHIPPED) == load(SHIPPED)


@pytest.mark.parametrize(("key", "typed"), BAD)
def test_a_bad_value_is_named_with_its_line_and_a_remedy(key: str, typed: str) -> None:
    (fault,) = faults(with_value(key, typed))
    assert fault.startswith(f"error: params.yaml:{line_of(key) + 1}: {key}: expected ")
    assert f"Fix: set {key} to what you want, for example " in fault


def test_every_key_has_bad_values_here() -> None:
    assert {key for key, _ in BAD} | {"data.label_column"} == set(keys_of())


@pytest.mark.parametrize("key", keys_of())
def test_a_missing_key_is_named_with_the_line_of_its_section(key: str) -> None:
    if key in ("model.source", "head.l2"):  # alone in its section, which is then empty
        return
    section, _, name = key.rpartition(".")
    if key in OLDER_FILES_LACK:
        before = OLDER_FILES_LACK[key]
        assert load(without(key)).model_dump()[section][name] == before
        return
    (fault,) = faults(without(key))
    line = LINES.index(f"{section}:") + 1 if section else 1
    assert fault.startswith(f"error: params.yaml:{line}: {key}: missing. Fix: add {key}, for ex")


@pytest.mark.parametrize("section", ["data", "model", "head", "lora", "train", "compute"])
def test_a_missing_or_empty_section_is_named_with_its_keys(section: str) -> None:
    content = YAML(typ="safe", pure=True).load(SHIPPED)
    first = f"{section}: (missing|expected a section, got None)"
    del content[section]
    for text in (repr(content), repr({**content, section: None}).replace("None}", "null}")):
        (fault,) = faults(
            text.replace("None", "null").replace("True", "true").replace("False", "false")
        )
        assert re.search(rf"params\.yaml:1: {first}\. Fix: ", fault)
        assert all(
            key.partition(".")[2] in fault for key in keys_of() if key.startswith(f"{section}.")
        )


@pytest.mark.parametrize(
    ("above", "line", "key", "guess"),
    [
        ("train.learning_rate", "  learning_rat: 1", "train.learning_rat", "learning_rate"),
        ("lora.r", "  zz: 1", "lora.zz", None),
        ("lora.r", "  lora_alpah: 1", "lora.lora_alpah", "lora_alpha"),
        ("seed", "sede: 1", "sede", "seed"),
        ("seed", "zzz: {a: [1, 2]}", "zzz", None),
        ("seed", "trian: null", "trian", "train"),
        ("compute.device", '  "\\e[2J": 1', "compute.\\x1b[2J", None),
        ("seed", '"a\\u202eb": 1', "a\\u202eb", None),
        ("seed", f'"{"a" * 900}": 1', "a" * 77 + "...", None),
    ],
)
def test_an_unknown_key_is_named_with_a_guess(
    above: str, line: str, key: str, guess: str | None
) -> None:
    (fault,) = faults(inserted(above, line))
    assert fault.startswith(f"error: params.yaml:{line_of(above) + 1}: {key}: unknown key")
    assert (f"did you mean {guess}? Fix: " in fault) if guess else ("did you mean" not in fault)


@pytest.mark.parametrize("line", ["1: x", "true: x", "null: x", "1.5: x", "? [a, b]\n: c"])
def test_a_key_that_is_no_name_is_refused(line: str) -> None:
    (fault,) = faults(inserted("seed", line))
    assert "a key is a name, not a value" in fault
    assert "use one of seed, data, model" in fault


def test_all_faults_come_together_each_on_its_line() -> None:
    text = with_value("seed", "x")
    for key, value in (("data.limit", "3"), ("lora.r", "eight"), ("train.epochs", "[]")):
        at = line_of(key)
        lines = text.splitlines()
        lines[at] = f"  {key.split('.')[1]}: {value}"
        text = "\n".join(lines) + "\n"
    before, _, space = text.partition("\n# What `bert-lora search N`")
    found = faults(f"{before}  extra: 1\n#{space}")
    assert [re.findall(r"yaml:\d+: ([\w.]+): ", fault) for fault in found] == [
        ["seed"],
        ["data.limit"],
        ["lora.r"],
        ["train.epochs"],
        ["compute.extra"],
    ]


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", "1", "expected sections of keys, got None"),
        ("# only a comment\n", "1", "expected sections of keys"),
        ("- a\n- b\n", "1", "expected sections of keys, got ['a', 'b']"),
        ("just words\n", "1", "got 'just words'"),
        ("\x1b[2J", "1", "unacceptable character #x001b"),
        (inserted("data.source", "\tlimit: 3"), str(line_of("data.source") + 1), "cannot start"),
        (inserted("seed", "seed: 1"), str(line_of("seed") + 2), 'found duplicate key "seed"'),
        (inserted("lora.r", "  r: 1"), str(line_of("lora.r") + 2), 'found duplicate key "r"'),
        (with_value("data.source", '"mine.csv'), r"\d+", "not valid YAML 1.2"),
        (with_value("data.source", "[a"), r"\d+", "not valid YAML 1.2"),
        (with_value("data.source", "*nobody"), str(line_of("data.source") + 1), "undefined alias"),
        (with_value("data.source", "@x"), str(line_of("data.source") + 1), "not valid YAML 1.2"),
        (SHIPPED + "---\n" + SHIPPED, r"\d+", "another document"),
        (SHIPPED.encode("utf-16"), "1", "byte 0 is not UTF-8"),
        (SHIPPED.encode("utf-16-le"), "1", "unacceptable character"),
        (b"seed: 1\n# caf\xe9\n", "2", "byte 13 is not UTF-8"),
        (with_value("seed", '"\x07"'), str(line_of("seed") + 1), "unacceptable character"),
    ],
)
def test_what_is_no_yaml_is_named_with_its_line(
    text: str | bytes, place: str, message: str
) -> None:
    (fault,) = faults(text)
    assert re.match(rf"error: params\.yaml:{place}[: ]", fault)
    assert message in fault


@pytest.mark.parametrize(
    "value",
    [
        *(f"!!{tag} x" for tag in ("int", "float", "bool", "timestamp", "binary", "set", "omap")),
        *("2001-99-99", "1" * 5000, "!!python/name:os.system", "!mine x"),
    ],
)
def test_a_value_that_the_parser_chokes_on_is_no_traceback(value: str) -> None:
    (fault,) = faults(with_value("seed", value))
    assert "not valid YAML 1.2: " in fault


@pytest.mark.parametrize("text", ["[" * 400, "{a: " * 3000, "- " * 3000, "a:\n" + " " * 9000])
def test_deep_nesting_is_no_traceback(text: str) -> None:
    assert len(faults(text)) in (1, 8, 9)  # of the file, or of its sections


def test_a_tag_runs_nothing() -> None:
    for tag in ("object/apply:os.system", "object/new:os.system", "object/apply:builtins.exec"):
        (fault,) = faults(with_value("seed", f'!!python/{tag} ["touch canary"]'))
        assert "could not determine a constructor" in fault
    assert not Path("canary").exists()


SHARES = {"data.validation_fraction": "0.6", "data.test_fraction": "0.4"}
SAME = {"data.text_column": "same", "data.label_column": "same"}
FROZEN = {"lora.inference_mode": "true"}


@pytest.mark.parametrize(
    ("changes", "key", "remedy"),
    [
        (SHARES, "data.validation_fraction + data.test_fraction", "lower one of the two"),
        (SAME, "data.label_column", "set each to the name of its own column"),
        ({"data.group_column": "text"}, "data.group_column", "set it to the column of what the"),
        (FROZEN, "lora.inference_mode", "set lora.inference_mode to false, or train.epochs to 0"),
    ],
)
def test_values_that_do_not_go_together_are_refused(
    changes: dict[str, str], key: str, remedy: str
) -> None:
    lines = LINES.copy()
    for name, value in changes.items():
        lines[line_of(name)] = with_value(name, value).splitlines()[line_of(name)]
    (fault,) = faults("\n".join(lines))
    line = line_of(key.partition(" ")[0]) + 1
    assert fault.startswith(f"error: params.yaml:{line}: {key}: ")
    assert f"Fix: {remedy}" in fault


def test_a_frozen_adapter_may_stay_untrained() -> None:
    text = with_value("lora.inference_mode", "true").splitlines()
    text[line_of("train.epochs")] = "  epochs: 0"
    assert load("\n".join(text)).lora.inference_mode


@pytest.mark.parametrize("make", ["nothing", "folder"])
def test_without_a_file_the_place_to_stand_is_named(make: str) -> None:
    if make == "folder":
        FILE.mkdir()
    with pytest.raises(ParamsError) as caught:
        load_params(FILE)
    assert str(caught.value) == "error: params.yaml: not found. Fix: run from the repository root"
