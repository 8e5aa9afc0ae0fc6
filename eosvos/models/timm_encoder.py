"""Any timm model with feature maps as an encoder."""

import logging
from collections import OrderedDict
from typing import Any

import timm
import torch
from torch import Tensor, nn

from eosvos.config import models as config
from eosvos.errors import UserError, suggest
from eosvos.models.fpn import PROBE_SIZE
from eosvos.models.weights import check_fit, efficientnet_lite0_state, is_path, read_state_dict

# timm warns of a file's classification head, for which an encoder has no use.
logging.getLogger("timm.models").setLevel(logging.ERROR)

FINEST_STRIDE = 4


class TimmEncoder(nn.Module):
    """The feature maps of a timm model, finest first, with their `channels` and `strides`.

    `image_mean` and `image_std` are what the model's images are normalised with.
    """

    def __init__(self, settings: config.TimmBackbone) -> None:
        super().__init__()
        name, out_indices = settings.name, settings.out_indices
        if not timm.is_model(name):
            raise UserError(f"there is no timm model {name!r}: {suggest(name, timm.list_models())}")
        net: Any = _create(settings)
        self.net = net
        strides, channels = net.feature_info.reduction(), net.feature_info.channels()
        used = [i for i, stride in enumerate(strides) if out_indices is not None or stride >= FINEST_STRIDE]
        self.used = tuple(used)
        self.strides, self.channels = [strides[i] for i in used], [channels[i] for i in used]
        pretrained = timm.get_pretrained_cfg(name)
        self.image_mean, self.image_std = pretrained.mean, pretrained.std
        self._check_maps(name)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Compute the maps [B, C, h, w] "0", "1", ... of normalised images [B, 3, H, W]."""
        maps = self.net(images)
        return OrderedDict((str(level), maps[i]) for level, i in enumerate(self.used))

    @torch.no_grad()
    def _check_maps(self, name: str) -> None:
        """Refuse models with maps of one size, with channels last, or for one image size only."""
        expected = [
            (c, PROBE_SIZE // s, PROBE_SIZE // s) for c, s in zip(self.channels, self.strides, strict=True)
        ]
        try:
            maps = self.eval()(torch.zeros(1, 3, PROBE_SIZE, PROBE_SIZE)).values()
            fits = [tuple(x.shape[1:]) for x in maps] == expected and len(set(self.strides)) == len(maps)
        except (AssertionError, RuntimeError):
            fits = False
        self.train()
        if not fits:
            raise UserError(
                f"The timm model {name} has no pyramid of maps [C, h, w] at any image size; choose another."
            )


def _create(settings: config.TimmBackbone) -> nn.Module:
    name, weights = settings.name, settings.weights
    options: dict[str, object] = {}
    if settings.out_indices is not None:
        options["out_indices"] = tuple(settings.out_indices)
    state = _state(name, weights)
    if state is not None:
        options["pretrained_cfg_overlay"] = {"state_dict": state}
    pretrained = state is not None or weights == "imagenet"
    try:
        net = timm.create_model(name, pretrained=pretrained, features_only=True, **options)
    except OSError as error:
        raise UserError(
            f"The ImageNet weights of {name} could not be downloaded: fetch model.safetensors of "
            f"{timm.get_pretrained_cfg(name).hf_hub_id} from the Hugging Face hub and give its path as "
            "weights, or weights=none."
        ) from error
    except (RuntimeError, IndexError, AssertionError, AttributeError, TypeError) as error:
        raise UserError(f"The timm model {name} cannot be a backbone as configured: {error}.") from error
    net.pretrained_cfg.pop("state_dict", None)
    return net


def _state(name: str, weights: str) -> dict[str, Tensor] | None:
    """Weights for timm's network, or all of it but the classifier; None where timm has to fetch them."""
    packaged = weights == "imagenet" and name == "tf_efficientnet_lite0"
    if not is_path(weights) and not packaged:
        return None
    with torch.device("meta"):
        expected = timm.create_model(name).state_dict()
    if packaged:
        return efficientnet_lite0_state(expected)
    state = read_state_dict(weights)
    heads = timm.get_pretrained_cfg(name).classifier or ()
    encoder = {key: value for key, value in expected.items() if not key.startswith(heads)}
    check_fit(encoder, state, f"weights={weights}")
    return {key: state[key] for key in encoder if key in state}
