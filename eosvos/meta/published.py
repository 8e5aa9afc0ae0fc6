"""Files of the published system, in and out (method, section 9)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eosvos.config.inference import Finetune
from eosvos.config.meta import InnerLR
from eosvos.config.models import MaskRCNN, TorchvisionResNet
from eosvos.errors import UserError
from eosvos.meta.learner import MetaLearner
from eosvos.meta.model import Model, build_learner, without_weights
from eosvos.meta.stored import FORMAT, KEY, PREFIX, SETTINGS, Stored, refuse
from eosvos.models.coco import old_name
from eosvos.models.weights import check_fit

STATE, ITERATION = "meta_optim_state_dict", "meta_iter"
RATE, WEIGHT = "log_init_lr_", "model_init_"
"""What names begin with there; learning rates are stored as they are, whatever theirs says."""
NETWORK = Model(
    segmenter={"_target_": MaskRCNN.target, **dict(MaskRCNN(weights="none", variant="published"))},
    backbone={"_target_": TorchvisionResNet.target, **dict(TorchvisionResNet(weights="none"))},
    inner_lr=InnerLR(level="neuron", log=False),
    order="first_order",
    train_encoder=True,
)
"""The network of these files."""


def is_published(content: Any) -> bool:
    """Whether a file is laid out so."""
    return isinstance(content, Mapping) and STATE in content


def from_published(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What a published file holds, with the entries of a checkpoint of train.py.

    Raises UserError if names, shapes or values are not those of the published network.
    """
    learner = _without_values()
    beginning = f"checkpoint={path}, of the published layout,"
    names, state = published_names(learner), content[STATE]
    entries = state.items() if isinstance(state, Mapping) else ()
    tensors = {name: value for name, value in entries if isinstance(value, Tensor)}
    expected = learner.state_dict()
    check_fit({name: expected[own] for name, own in names.items()}, tensors, beginning)
    refuse(beginning, _oddities(tensors, names))
    stored = Stored(format=FORMAT, stage="meta", model=NETWORK, finetune=Finetune())
    return {
        **content,
        "state_dict": {PREFIX + own: tensors[name] for name, own in names.items()},
        KEY: stored.model_dump(),
        SETTINGS: {},
        "iteration": content.get(ITERATION),
    }


def _oddities(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> Iterator[str]:
    for name, value in tensors.items():
        if name not in names:
            yield f"{name} is unknown, so it is of another network"
        elif name.startswith(RATE) and (value < 0).any():
            yield f"{name} has negative values: it must hold learning rates, not their logarithms"


def to_published(path: Path, model: Model, state: Mapping[str, Tensor], iteration: int) -> dict[str, Any]:
    """The content of a published file, which will be at `path`, from a learner's state dict ([...] by name).

    Raises UserError for another network than the published one.
    """
    ours, published = _flat(model), _flat(NETWORK)
    for key in {**published, **ours}:
        if ours.get(key) != published.get(key):
            raise UserError(
                f"{path}: the published layout is of one network, with {key}={published.get(key)} and not "
                f"{ours.get(key)}: write a folder instead"
            )
    tensors = {name: state[own] for name, own in published_names(_without_values()).items()}
    return {STATE: tensors, ITERATION: iteration, "meta_epoch": 0, "vis_win_names": {}}


def _flat(model: Model) -> dict[str, Any]:
    """What fixes the weights' shapes and meaning, by key."""
    values = without_weights(model).model_dump(exclude={"order": True, "inner_lr": {"init", "max"}})
    groups = {part: node if isinstance(node, dict) else {"": node} for part, node in values.items()}
    return {
        f"{part}.{name}".strip("."): value for part, node in groups.items() for name, value in node.items()
    }


def _without_values() -> MetaLearner:
    """The published network's learner, of shapes alone."""
    with torch.device("meta"):
        return build_learner(NETWORK, seed=0)


def published_names(learner: MetaLearner) -> dict[str, str]:
    """For each published name, in the published order, the name in the learner's state dict."""
    own = {id(value): name for name, value in learner.named_parameters()}
    rates = {RATE + _published(name): own[id(rate.value)] for name, rate in learner.named_inner_lrs()}
    weights = learner.segmenter.named_parameters()
    return rates | {WEIGHT + _published(name): own[id(weight)] for name, weight in weights}


def _published(name: str) -> str:
    return old_name(name).replace(".", "-")
