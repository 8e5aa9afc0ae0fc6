"""Weights of a Mask R-CNN that was trained for other classes, as far as they fit (method, section 1)."""

import re
from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from eosvos.models.weights import check_fit, fetch_weights, read_state_dict

BODY = "backbone.body."
PREDICTORS = ("roi_heads.box_predictor.", "roi_heads.mask_predictor.mask_fcn_logits.")
"""What depends on the classes, and stays as it is unless the shapes agree."""
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
COCO_SOURCE = "weights=coco (for ResNet-50 and, but for its body, ResNet-101)"

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

    All but the classes' predictors must agree. Of coco, nothing is loaded into a deeper body (ResNet-101): it
    has weights of its own. Raises UserError if the weights do not fit or cannot be had.
    """
    if weights == "none":
        return
    if weights == "coco":
        state, source = fetch_weights(MaskRCNN_ResNet50_FPN_Weights.COCO_V1), COCO_SOURCE
    else:
        state, source = read_state_dict(weights), f"weights={weights}"
    state = {modern_name(name): value for name, value in state.items()}
    wanted = detector.state_dict()
    if weights == "coco" and _is_deeper(wanted, state):
        wanted = {name: value for name, value in wanted.items() if not name.startswith(BODY)}
    fitting = {n: state[n] for n in wanted if n in state and state[n].shape == wanted[n].shape}
    loaded = {n: value for n, value in wanted.items() if n in fitting or not n.startswith(PREDICTORS)}
    check_fit(loaded, state, source)
    detector.load_state_dict(fitting, strict=False)


def _is_deeper(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    """Whether the body `own` has all the layers of the body in `state`, and further ones."""
    layers = {name for name in state if name.startswith(BODY) and not name.endswith(STATISTICS)}
    contained = all(name in own and own[name].shape == state[name].shape for name in layers)
    return contained and any(name.startswith(BODY) and name not in state for name in own)
