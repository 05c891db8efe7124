"""The merged model as an ONNX graph with its pooling in it, and the same in 8-bit integers."""

from __future__ import annotations

import io
import logging
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from stages.core.errors import HostError, ModelError, printable
from stages.model.classifier import Classifier

# Two rows of other lengths, so that batch, length and padding are all seen; 0 and 1 would be
# taken for constants.
SAMPLE = ("a quiet film", "two hours that nobody will give me back, and no laugh in them")
EXPORTERS = ("torch.onnx", "transformers", "onnxscript", "onnx_ir", "torch.export")  # loggers
CPU = Path("/proc/cpuinfo")
LARGEST = 1_900_000_000  # bytes of weights in one file: a protobuf ends at 2 GiB


def check_installed() -> None:
    """Check that what writes and runs an ONNX file is installed.

    Raises:
        HostError: if a package is missing.
    """
    try:
        import onnx  # noqa: F401  # whether it is there
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise HostError(
            f"{error.name} is not installed: --format onnx needs it",
            "run: pip install -e '.[export]' -c .github/constraints.txt",
        ) from None


def write_onnx(model: Any, classifier: Classifier, path: Path) -> None:
    """Write the model as one ONNX file: input_ids and attention_mask (rows, tokens) to logits.

    Rows and tokens are free. The file is checked by onnx.

    Args:
        model: as `merge.merged` returns it, on the CPU in float32.
        classifier: what it was made from: its tokenizer.
        path: the file to write.

    Raises:
        ModelError: if the exporter cannot translate the model, or fixes rows or tokens.
    """
    import onnx
    import onnx_ir
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    if sum(p.numel() * p.element_size() for p in model.parameters()) > LARGEST:
        what = "the model has more than 1.9 GB of weights, which one ONNX file cannot hold"
        raise ModelError(what, "use --format merged")
    batch = classifier.tokenizer(list(SAMPLE), padding=True, return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    config = OnnxConfig(dynamic_shapes=dict.fromkeys(inputs, free))
    model.requires_grad_(False)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings(), _quiet(*EXPORTERS):
            warnings.simplefilter("ignore")
            exporter = OnnxExporter()  # type: ignore[no-untyped-call]  # Transformers leaves it so
            program: Any = exporter.export(model, inputs, config=config).program
    except Exception as error:  # the exporter meets anything that a model may do
        name = type(model).__name__
        raise ModelError(
            f"{name} cannot be translated to ONNX: {printable(error, 200)}", "use --format merged"
        ) from error
    onnx_ir.save(program, path)
    onnx.checker.check_model(path, full_check=True)
    graph = onnx.load(path).graph
    fixed = [d for i in graph.input for d in i.type.tensor_type.shape.dim if not d.dim_param]
    if [i.name for i in graph.input] != list(inputs) or fixed:
        what = f"the ONNX graph of {type(model).__name__} has a fixed shape or other inputs"
        raise ModelError(what, "use --format merged")


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Let these loggers report errors alone: they speak of releases and of packages not needed."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def quantise(path: Path) -> dict[str, Any]:
    """Replace an ONNX file by the same with 8-bit weights; activations are rounded as they come.

    ONNX Runtime's dynamic quantisation, with a scale for each output channel. Where the processor
    lacks VNNI its 8-bit products saturate, so weights then keep 7 bits (ONNX Runtime's
    `reduce_range`).

    Args:
        path: the ONNX file, in float32.

    Returns:
        How it was quantised, for the record.

    Raises:
        ModelError: if no weight became an integer, or the file is not a valid one.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    reduce_range = not has_vnni()
    small = path.with_name(f"{path.name}.int8")
    with _quiet("root"):  # it recommends a step that these graphs do not need
        quantize_dynamic(
            path,
            small,
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
        )
    onnx.checker.check_model(small)
    integers = [
        tensor.name
        for tensor in onnx.load(small).graph.initializer
        if tensor.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
        and len(tensor.dims) > 1
    ]
    if not integers:
        raise ModelError("ONNX Runtime quantised no weight of this model", "leave out --int8")
    small.replace(path)
    return {"weights": len(integers), "per_channel": True, "reduce_range": reduce_range}


def has_vnni() -> bool:
    """Return whether the processor multiplies 8-bit integers without saturation."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return True  # its dot product sums in 32 bits
    try:
        flags = CPU.read_text(encoding="utf-8").split()
    except OSError:  # not Linux: unknown
        return False
    return bool({"avx512_vnni", "avx_vnni"} & set(flags))
