"""The published network with weights from formulas, and what it must give (tests/goldens/mask_rcnn.json)."""

import re
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from eosvos.models.mask_rcnn import MaskRCNN
from eosvos.models.proposals import add_prior_proposals

LOSS_TOLERANCE = {"loss_classifier": 1e-3}  # the order of nearly equal scores decides the random sample
PRIOR = torch.tensor([50.0, 40.0, 120.0, 100.0])
CASES = {"eval_no_target": None, "eval_extend": "extend", "eval_replace": "replace"}


def old_name(name: str) -> str:
    name = re.sub(r"(fpn\.\w+_blocks\.\d)\.0\.", r"\1.", name).replace("rpn.head.conv.0.0.", "rpn.head.conv.")
    return re.sub(r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}.", name)


def formula_weights(name: str, shape: Iterable[int]) -> Tensor:
    shape = torch.Size(shape)
    if len(shape) == 1:
        return torch.full(shape, float(name.endswith("weight")))
    draw = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF).standard_normal(tuple(shape))
    scale = np.sqrt(2 / np.prod(shape[1:]))
    if name.split(".")[-2] in ("cls_logits", "bbox_pred", "cls_score", "mask_fcn_logits"):
        scale *= 0.001 if name.startswith("rpn.head.bbox_pred") else 0.1
    return torch.from_numpy(draw * scale).float()


def formula_frame() -> tuple[Tensor, Tensor]:
    """Image [1, 3, 128, 160] and mask uint8 [1, 128, 160]."""
    y, x = np.mgrid[:128, :160].astype(np.float64)
    mask = ((y >= 40) & (y < 100) & (x >= 50) & (x < 120)).astype(np.float64)
    waves = [0.5 + 0.2 * np.sin(0.11 * x + 0.7 * c) + 0.2 * np.cos(0.07 * y * (c + 1)) for c in range(3)]
    tint = (1, 0.3, 0.1)
    image = np.stack([wave * (1 - 0.5 * mask) + 0.25 * mask * tint[c] for c, wave in enumerate(waves)])
    return torch.from_numpy(image).float()[None], torch.from_numpy(mask).to(torch.uint8)[None]


def check_training(
    model: MaskRCNN, golden: dict[str, Any], loss_tolerance: float, grad_tolerance: float
) -> None:
    model.zero_grad()
    torch.manual_seed(0)
    image, mask = formula_frame()
    losses = model.losses(image.to(next(model.parameters()).dtype), mask)
    sum(losses.values()).backward()
    assert list(losses) == golden["loss_order"]
    for name, value in golden["losses"].items():
        tolerance = max(loss_tolerance, LOSS_TOLERANCE.get(name, 0) if loss_tolerance > 1e-5 else 0)
        assert float(losses[name].detach()) == pytest.approx(value, rel=tolerance, abs=1e-9), name
    gradients = {old_name(name): p.grad for name, p in model.named_parameters()}
    for name, value in golden["grad_abs_sum"].items():
        assert float(gradients[name].double().abs().sum()) == pytest.approx(value, rel=grad_tolerance), name
    assert [name for name, g in gradients.items() if g is None] == golden["num_params_without_grad"]


def check_evaluation(model: MaskRCNN, golden: dict[str, Any], cases: dict[str, str | None]) -> None:
    with torch.no_grad():
        features = model.features(formula_frame()[0])
        for case, mode in cases.items():
            expected = golden[case]
            torch.manual_seed(0)
            model.settings = model.settings.model_copy(update={"proposals": mode or "extend"})
            prior = None if mode is None else PRIOR
            scaled = None if mode is None else PRIOR * features.network_size[0] / features.size[0]
            boxes = add_prior_proposals(features.proposals[0], scaled, features.network_size, model.settings)
            assert len(boxes) == expected["num_proposals"]
            assert float(boxes.double().sum()) == pytest.approx(expected["proposal_coord_sum"], rel=1e-4)
            torch.testing.assert_close(
                boxes[0], torch.tensor(expected["proposal_first"]), rtol=1e-4, atol=1e-3
            )
            torch.testing.assert_close(
                boxes[-1], torch.tensor(expected["proposal_last"]), rtol=1e-4, atol=1e-3
            )
            torch.manual_seed(0)
            found = model.detect(features, 0, prior)
            assert float(found.score) == pytest.approx(expected["score"][0], rel=1e-4)
            torch.testing.assert_close(found.box, torch.tensor(expected["box"]), rtol=1e-4, atol=1e-4)
            assert found.probability.shape == (128, 160)
            assert float(found.probability.double().sum()) == pytest.approx(expected["mask_sum"], rel=1e-3)
            assert int((found.probability >= 0.5).sum()) == pytest.approx(expected["mask_ge_0.5"], rel=1e-3)
