"""Weights of a whole network that was trained for other classes, as far as they fit (method, section 1)."""

from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models import WeightsEnum

from eosvos.models.weights import check_fit, fetch_weights, read_state_dict

BODY = "backbone.body."
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
COCO_SOURCE = "weights=coco (for ResNet-50 and ResNet-101)"

_MODERN = {
    "rpn.head.conv": "rpn.head.conv.0.0",
    **{
        f"backbone.fpn.{part}_blocks.{i}": f"backbone.fpn.{part}_blocks.{i}.0"
        for part in ("inner", "layer")
        for i in range(4)
    },
    **{f"roi_heads.mask_head.mask_fcn{i + 1}": f"roi_heads.mask_head.{i}.0" for i in range(4)},
}
"""Layers by their names in torchvision 0.4."""
_OLD = {modern: old for old, modern in _MODERN.items()}


def modern_name(name: str) -> str:
    """Return today's torchvision name of a parameter that may have the name of torchvision 0.4."""
    layer, dot, kind = name.rpartition(".")
    return _MODERN.get(layer, layer) + dot + kind


def old_name(name: str) -> str:
    """Return the name in torchvision 0.4 of a parameter that may have today's."""
    layer, dot, kind = name.rpartition(".")
    return _OLD.get(layer, layer) + dot + kind


def load_where_it_fits(network: nn.Module, weights: str, coco: WeightsEnum, fresh: tuple[str, ...]) -> None:
    """Load `weights` (none, coco, or the path of a state dict) into a network where name and shape agree.

    coco: torchvision's weights of that name. All must agree but what begins with one of `fresh`, such as the
    predictors of the classes, which stays as it is. Of coco, nothing is loaded into a deeper body: the
    ResNet-101 of a Mask R-CNN has weights of its own. Raises UserError if the weights do not fit or cannot be
    had.
    """
    if weights == "none":
        return
    if weights == "coco":
        state, source = fetch_weights(coco), COCO_SOURCE
    else:
        state, source = read_state_dict(weights), f"weights={weights}"
    state = {modern_name(name): value for name, value in state.items()}
    wanted = network.state_dict()
    if weights == "coco" and _is_deeper(wanted, state):
        wanted = {name: value for name, value in wanted.items() if not name.startswith(BODY)}
    fitting = {n: state[n] for n in wanted if n in state and state[n].shape == wanted[n].shape}
    loaded = {n: value for n, value in wanted.items() if n in fitting or not n.startswith(fresh)}
    check_fit(loaded, state, source)
    network.load_state_dict(fitting, strict=False)


def _is_deeper(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    """Whether the body `own` has all the layers of the body in `state`, and further ones."""
    layers = {name for name in state if name.startswith(BODY) and not name.endswith(STATISTICS)}
    contained = all(name in own and own[name].shape == state[name].shape for name in layers)
    return contained and any(name.startswith(BODY) and name not in state for name in own)
