"""Mask R-CNN with ResNet-50 and GroupNorm against the published system's own numbers."""

import json
from pathlib import Path
from typing import Any

import networks
import pytest
import torch
from formula_network import CASES, check_evaluation, check_training, old_name
from torch import Tensor

from eosvos.models.mask_rcnn import MaskRCNN

SIZES = {"native": (128, 160), "default": (800, 1333)}


@pytest.fixture(scope="module")
def golden(goldens: Path) -> dict[str, Any]:
    return json.loads((goldens / "mask_rcnn.json").read_text())


@pytest.fixture(scope="module")
def weights(formula_state: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.device("meta"):
        names = networks.mask_rcnn(networks.resnet("resnet50")).state_dict()
    return {name: formula_state[old_name(name)] for name in names}


def network(weights: dict[str, Tensor], size: str, **options: Any) -> MaskRCNN:
    with torch.device("meta"):
        backbone = networks.resnet("resnet50")
    low, high = SIZES[size]
    model = networks.mask_rcnn(backbone, min_size=low, max_size=high, **options)
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(True)


@pytest.mark.parametrize(
    ("size", "library"),
    [("native", "tv04"), ("native", "tv029"), pytest.param("default", "tv04", marks=pytest.mark.slow)],
)
def test_training_and_evaluation(
    golden: dict[str, Any], weights: dict[str, Tensor], size: str, library: str
) -> None:
    variant = {"tv04": "published", "tv029": "torchvision"}[library]
    model = network(weights, size, variant=variant)
    expected = golden["results"][f"{size}/{library}"]
    check_evaluation(model, expected, CASES)
    # In double precision nearly equal scores have one order, whatever the processor's kernels.
    check_training(model.double(), expected["train"], 1e-4, 1e-2)


@pytest.mark.parametrize("library", ["tv04", "tv029"])
def test_training_on_all_samples(golden: dict[str, Any], weights: dict[str, Tensor], library: str) -> None:
    variant = {"tv04": "published", "tv029": "torchvision"}[library]
    model = network(weights, "native", variant=variant, rpn_samples=10**6, roi_samples=10**6)
    check_training(model, golden["all_samples_native"][library]["train"], 1e-5, 5e-3)


def test_size_of_the_published_network(weights: dict[str, Tensor], goldens: Path) -> None:
    layout = json.loads((goldens / "published_state_dict_layout.json").read_text())
    assert len(weights) == 201
    assert sum(value.numel() for value in weights.values()) == 43_975_515
    published = json.dumps(layout)
    assert all(f"model_init_{old_name(name).replace('.', '-')}" in published for name in weights)
    heads = {name: value for name, value in weights.items() if name.startswith("roi_heads.")}
    model = network(weights, "native")
    assert len(model.head_parameters()) == len(heads) == 20
    assert sum(p.numel() for p in model.head_parameters()) == 16_529_164
    assert not list(model.buffers())
