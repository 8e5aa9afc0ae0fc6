"""Weights of a Mask R-CNN that was trained for other classes, as far as they fit (method section 1)."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from eosvos.errors import UserError
from eosvos.models.weights import fetch_weights, read_state_dict

BODY = "backbone.body."
PREDICTORS = ("roi_heads.box_predictor.", "roi_heads.mask_predictor.mask_fcn_logits.")
"""What depends on the classes, and stays as it is unless the shapes agree."""

_RENAMED = (
    (re.compile(r"(fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$"), r"\1.0.\2"),
    (re.compile(r"(rpn\.head\.conv)\.(weight|bias)$"), r"\1.0.0.\2"),
    (
        re.compile(r"(mask_head)\.mask_fcn(\d+)\.(weight|bias)$"),
        lambda match: f"{match[1]}.{int(match[2]) - 1}.0.{match[3]}",
    ),
)


def modern_name(name: str) -> str:
    """Return today's torchvision name of a parameter that may have the name of torchvision 0.4."""
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name


def load_detector(detector: nn.Module, weights: str) -> None:
    """Load `weights` (none, coco, or the path of a state dict) into a Mask R-CNN where name and shape agree.

    All but the classes' predictors must agree. Of a body that is deeper than the weights' (ResNet-101) none
    is loaded: it has weights of its own. Raises UserError if the weights do not fit.
    """
    if weights == "none":
        return
    if weights == "coco":
        state = fetch_weights(MaskRCNN_ResNet50_FPN_Weights.COCO_V1)
    else:
        state = read_state_dict(weights)
    state = {modern_name(name): value for name, value in state.items()}
    own = detector.state_dict()
    fitting = {name: state[name] for name in own if name in state and state[name].shape == own[name].shape}
    if _is_deeper(own, state, fitting):
        fitting = {name: value for name, value in fitting.items() if not name.startswith(BODY)}
        missing = [n for n in own if n not in fitting and not n.startswith((BODY, *PREDICTORS))]
    else:
        missing = [n for n in own if n not in fitting and not n.startswith(PREDICTORS)]
    if missing:
        raise UserError(_misfit(weights, missing, own, state))
    detector.load_state_dict(fitting, strict=False)


def _is_deeper(own: Mapping[str, Tensor], state: Mapping[str, Tensor], fitting: Iterable[str]) -> bool:
    """Whether the body has all the layers of the weights' body, and further ones."""
    layers = {name for name in state if name.startswith(BODY) and not _is_statistic(name)}
    return layers <= set(fitting) and any(n.startswith(BODY) and n not in state for n in own)


def _is_statistic(name: str) -> bool:
    """Whether a norm's running statistic, which GroupNorm does not have."""
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def _misfit(weights: str, missing: list[str], own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """The sentence that names the first tensors that are not in the weights, or have another shape there."""
    first = ", ".join(
        f"{name} {list(own[name].shape)} ({list(state[name].shape) if name in state else 'absent'} there)"
        for name in missing[:3]
    )
    return (
        f"segmenter.weights={weights} does not fit this network in {len(missing)} tensors, first {first}: "
        "COCO weights are for ResNet-50 and, but for its body, ResNet-101; else take segmenter.weights=none."
    )
