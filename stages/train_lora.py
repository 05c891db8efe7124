"""Train the adapter; keep the checkpoint that is best on validation, the base among them."""

import shutil

from stages.core import paths
from stages.core.artefacts import read_object, replacing
from stages.core.params import Params
from stages.model.classifier import Classifier
from stages.model.device import set_up
from stages.model.fast import speed_up
from stages.model.head import last_layer, load_head, read_head
from stages.model.load import load_base
from stages.model.methods import method_of
from stages.model.saved import check_loaded, load_adapter, save_adapter
from stages.rows import prepared
from stages.running import processes
from stages.sources.catalogue import hub_name
from stages.training.checkpoints import made_of
from stages.training.curves import write_training_curves
from stages.training.data import plan_of
from stages.training.trainer import Start, train


def train_lora(params: Params) -> dict[str, str]:
    """Write the adapter to models/adapter and the training curves to metrics/training."""
    device = set_up(params.compute)
    method = method_of(params)
    labels = prepared.read_labels()
    splits = (
        prepared.read_split(paths.TRAIN, labels),
        prepared.read_split(paths.VALIDATION, labels),
    )

    def fresh_base() -> Classifier:
        dropout = params.train.attention_dropout
        return load_base(
            paths.BASE_MODEL, labels, params.seed, device, params.model.pooling, dropout
        )

    base = fresh_base()
    load_head(base, paths.HEAD)
    starts = {"means": paths.HEAD_START.name, "base": paths.HEAD_WEIGHTS.name}
    start = Start(last_layer(base), read_head(base, paths.HEAD, starts[params.train.start]))
    classifier = method.attach(base, params)
    count = classifier.model.num_parameters
    trained, total = count(only_trainable=True), count()
    print(
        f"{method.describe(classifier)} {', '.join(classifier.head)}: {trained:,} of {total:,} "
        f"parameters train ({100 * trained / total:.2f} %)"
    )
    for line in plan_of(params.train, splits[0].targets, len(splits[1].ids)).lines:
        print(line)
    speed_up(classifier, device, params.seed)
    training = train(classifier, splits, params, device, start)
    if not processes.leads():
        return device.facts()

    base_temperature = read_object(paths.HEAD_FIT, "temperature")["temperature"]
    with replacing(paths.ADAPTER) as folder:
        save_adapter(
            classifier,
            params.train.method,
            training.kept,
            device,
            folder,
            paths.BASE_MODEL,
            params.data.max_length,
            training.temperature or base_temperature,
            made_of(),
            hub_name(params.model.source, "models"),
        )
        loaded = load_adapter(fresh_base(), folder, paths.BASE_MODEL)
        speed_up(loaded, device, params.seed)
        check_loaded(classifier, loaded, splits[1].texts[:16], device)
    write_training_curves(training.history, paths.TRAINING_CURVES)
    shutil.rmtree(paths.CHECKPOINTS, ignore_errors=True)
    return device.facts()
