"""The merged model as an ONNX graph with its pooling in it, and the same in 8-bit integers."""

import io
import logging
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers.exporters.configs import OnnxConfig
from transformers.exporters.exporter_onnx import OnnxExporter

from stages.core.errors import ModelError, printable
from stages.model.classifier import Classifier

# Two rows of other lengths, so that batch, length and padding are all seen; 0 and 1 would be
# taken for constants.
SAMPLE = ("a quiet film", "two hours that nobody will give me back, and no laugh in them")
CPU = Path("/proc/cpuinfo")
LARGEST = 1_900_000_000  # bytes of weights in one file: a protobuf ends at 2 GiB


def write_onnx(model: Any, classifier: Classifier, path: Path) -> None:
    """Write the model as one ONNX file: input_ids and attention_mask (rows, tokens) to logits.

    Rows and tokens are free. The file is checked by onnx.

    Args:
        model: as `export_merged.merged` returns it, on the CPU in float32.
        classifier: what it was made from: its tokenizer.
        path: the file to write.

    Raises:
        ModelError: if the exporter cannot translate the model, or fixes rows or tokens.
    """
    if sum(p.numel() * p.element_size() for p in model.parameters()) > LARGEST:
        what = "the model has more than 1.9 GB of weights, which one ONNX file cannot hold"
        raise ModelError(what, "use --format merged")
    batch = classifier.tokenizer(list(SAMPLE), padding=True, return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    config = OnnxConfig(dynamic_shapes=dict.fromkeys(inputs, free))
    name = type(model).__name__
    model.requires_grad_(False)
    try:
        with _quiet():
            exporter = OnnxExporter()  # type: ignore[no-untyped-call]  # Transformers leaves it so
            program: Any = exporter.export(model, inputs, config=config).program
    except Exception as error:  # the exporter meets anything that a model may do
        what = f"{name} cannot be translated to ONNX: {printable(error, 200)}"
        raise ModelError(what, "use --format merged") from error
    onnx_ir.save(program, path)
    onnx.checker.check_model(path, full_check=True)
    graph = onnx.load(path).graph
    fixed = [d for i in graph.input for d in i.type.tensor_type.shape.dim if not d.dim_param]
    if [i.name for i in graph.input] != list(inputs) or fixed:
        what = f"the ONNX graph of {name} has a fixed shape or other inputs"
        raise ModelError(what, "use --format merged")


@contextmanager
def _quiet() -> Iterator[None]:
    """Let errors alone be reported: the libraries speak of releases and of packages not needed."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def quantise(path: Path) -> dict[str, Any]:
    """Replace an ONNX file by the same with 8-bit weights; activations are rounded as they come.

    ONNX Runtime's dynamic quantisation, with a scale for each output channel. Where the processor
    lacks VNNI its 8-bit products saturate, so weights then keep 7 bits (ONNX Runtime's
    `reduce_range`).

    Returns:
        How it was quantised, for the record.

    Raises:
        ModelError: if no weight became an integer.
    """
    reduce_range = not has_vnni()
    small = path.with_name(f"{path.name}.int8")
    with _quiet():  # it recommends a step that these graphs do not need
        quantize_dynamic(
            path,
            small,
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
        )
    onnx.checker.check_model(small)
    kinds = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    weights = [w for w in onnx.load(small).graph.initializer if len(w.dims) > 1]
    integers = sum(weight.data_type in kinds for weight in weights)
    if not integers:
        raise ModelError("ONNX Runtime quantised no weight of this model", "leave out --int8")
    small.replace(path)
    return {"weights": integers, "per_channel": True, "reduce_range": reduce_range}


def has_vnni() -> bool:
    """Return whether the processor multiplies 8-bit integers without saturation."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return True  # its dot product sums in 32 bits
    try:
        flags = CPU.read_text(encoding="utf-8").split()
    except OSError:  # not Linux: unknown
        return False
    return bool({"avx512_vnni", "avx_vnni"} & set(flags))
