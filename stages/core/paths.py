"""Every file the pipeline reads or writes, named once, relative to the repository root."""

from pathlib import Path

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
LOCK = Path("dvc.lock")
RWLOCK = Path(".dvc/tmp/rwlock")  # DVC's own, while one of its commands runs
CONSTRAINTS = Path(".github/constraints.txt")

RAW = Path("data/raw")
TRAIN = Path("data/train.parquet")
VALIDATION = Path("data/validation.parquet")
TEST = Path("data/test.parquet")
LABELS = Path("data/labels.json")

MODELS = Path("models")
BASE_MODEL = Path("models/base")
HEAD = Path("models/head")
HEAD_WEIGHTS = HEAD / "head.safetensors"
HEAD_START = HEAD / "start.safetensors"
HEAD_FIT = HEAD / "fit.json"
ADAPTER = Path("models/adapter")
ADAPTER_CONFIG = ADAPTER / "adapter_config.json"
ADAPTER_WEIGHTS = ADAPTER / "adapter_model.safetensors"
ADAPTER_MANIFEST = ADAPTER / "manifest.json"
ADAPTER_MODEL_CONFIG = ADAPTER / "model_config.json"  # as config.json it would hide the base
MODEL_CARD = ADAPTER / "README.md"

DATA_SUMMARY = Path("metrics/data.json")
BASE_METRICS = Path("metrics/base.json")
TOKENS = Path("metrics/tokens.json")  # how base, texts and data.max_length fit
ADAPTER_METRICS = Path("metrics/adapter.json")
TFIDF_METRICS = Path("metrics/tfidf.json")
COMPARISON = Path("metrics/comparison.json")
GAIN = Path("metrics/gain.json")  # of it what DVC's tables show
BASE_PREDICTIONS = Path("metrics/predictions/base.csv")
ADAPTER_PREDICTIONS = Path("metrics/predictions/adapter.csv")
TFIDF_PREDICTIONS = Path("metrics/predictions/tfidf.csv")
TRAINING_CURVES = Path("metrics/training")
DETAILS = Path("metrics/details.json")
LADDER = Path("metrics/ladder.csv")
FLIPS = Path("metrics/flips.csv")
SUSPECTS = Path("metrics/suspects.csv")
CURVES = Path("metrics/curves")
FIGURES = Path("metrics/figures")
REPORT_HTML = Path("metrics/report.html")
REPORT_MD = Path("metrics/report.md")

# Written by `bert-lora seeds`, kept by git.
SEEDS = Path("metrics/records/seeds.json")
# Written by .ci/benchmark.py, kept by git.
BENCHMARK = Path("metrics/records/benchmark.json")
SERVING = Path("metrics/records/serving.json")

# Written by `bert-lora export`, kept by git.
EXPORTS = Path("metrics/records/exports.json")

# Written by `bert-lora search`, kept by git.
SEARCH_TABLE = Path("metrics/records/search.csv")
SEARCH = Path("metrics/records/search.json")

# Written by .ci/methods.py, kept by git.
METHODS = Path("metrics/records/methods.csv")

# Written by `bert-lora curve`, kept by git.
CURVE = Path("metrics/records/curve.csv")

# What commands write and only the report shows.
RECORDS = (SEEDS, SEARCH, SEARCH_TABLE, EXPORTS, CURVE, METHODS)

# Studies of `bert-lora search` and the logs of its workers; neither git nor DVC tracks them.
STUDIES = Path("models/.search")

# Checkpoints of a running training: neither git nor DVC tracks them.
CHECKPOINTS = Path("models/.checkpoints")
# How the last run went: its machine, versions and times. Neither tracks it, as it never repeats.
PROVENANCE = Path("models/provenance.json")

# Names inside a folder that `bert-lora export` writes, wherever it is.
EXPORT_RECORD = "export.json"
EXPORT_ONNX = "model.onnx"
EXPORT_WEIGHTS = "model.safetensors"
EXPORT_TOKENIZER = "tokenizer.json"
EXPORT_CARD = "README.md"
