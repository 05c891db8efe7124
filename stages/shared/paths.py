"""Every file the pipeline reads or writes, named once, relative to the repository root."""

from pathlib import Path

PARAMS = Path("params.yaml")

RAW = Path("data/raw")
TRAIN = Path("data/train.parquet")
VALIDATION = Path("data/validation.parquet")
TEST = Path("data/test.parquet")
LABELS = Path("data/labels.json")

BASE_MODEL = Path("models/base")
HEAD = Path("models/head")
ADAPTER = Path("models/adapter")

DATA_SUMMARY = Path("metrics/data.json")
BASE_METRICS = Path("metrics/base.json")
ADAPTER_METRICS = Path("metrics/adapter.json")
COMPARISON = Path("metrics/comparison.json")
BASE_PREDICTIONS = Path("metrics/predictions/base.csv")
ADAPTER_PREDICTIONS = Path("metrics/predictions/adapter.csv")
TRAINING_CURVES = Path("metrics/training")

# Checkpoints of a running training: neither git nor DVC tracks them.
CHECKPOINTS = Path("models/.checkpoints")

# Which stage makes what a later one reads; an error about a missing file names it.
MADE_BY = {
    TRAIN: "prepare",
    VALIDATION: "prepare",
    TEST: "prepare",
    LABELS: "prepare",
    DATA_SUMMARY: "prepare",
    BASE_MODEL: "fetch_base",
    HEAD: "evaluate_base",
    BASE_METRICS: "evaluate_base",
    BASE_PREDICTIONS: "evaluate_base",
    ADAPTER: "train_lora",
    ADAPTER_METRICS: "evaluate_adapter",
    ADAPTER_PREDICTIONS: "evaluate_adapter",
}
