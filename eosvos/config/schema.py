"""What Hydra composes from: the defaults of the declarations, as plain values."""

from collections.abc import Mapping
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from pydantic_core import PydanticUndefined

from eosvos.config import data, models
from eosvos.config.command_line import devices_for
from eosvos.config.help import options_table
from eosvos.config.setting import Settings
from eosvos.config.training import Config

SOURCES: Mapping[str, type[Settings]] = {
    "synthetic": data.Synthetic,
    "davis": data.Davis,
    "youtube_vos": data.YouTubeVOS,
    "folder": data.Folder,
}
NETWORKS: Mapping[str, type[Settings]] = {
    "torchvision_resnet": models.TorchvisionResNet,
    "timm_backbone": models.TimmBackbone,
    "tiny_backbone": models.TinyBackbone,
    "mask_rcnn": models.MaskRCNN,
    "light_deeplab": models.LightDeepLab,
}
DECLARED = {declared.target: declared for declared in [*SOURCES.values(), *NETWORKS.values()]}
"""Declarations of what is built by a `_target_`; others take their keys as keyword arguments."""


def defaults(declared: type[Settings]) -> dict[str, Any]:
    """The default of every setting: ??? for one without."""
    values = {name: _default(field) for name, field in declared.model_fields.items()}
    return {"_target_": declared.target, **values} if declared.target else values


def _default(field: Any) -> Any:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "???"
    if isinstance(value, Settings):
        return defaults(type(value))
    return value


def dataset_defaults(source: type[Settings]) -> dict[str, Any]:
    """A data set: how tasks are drawn, what its videos have in common, and the parts of their own."""
    values = defaults(source)
    common = {name: value for name, value in values.items() if name not in source.of_part}
    part = values | {name: f"${{dataset.{name}}}" for name in common}
    return {**common, **defaults(data.Tasks), **{split: dict(part) for split in ("train", "val", "test")}}


def register() -> None:
    """Make the declarations known to Hydra as schema/NAME, and the functions that config files call."""
    store = ConfigStore.instance()
    run = defaults(Config)
    # An option of meta/outer/optimizer fills it, and leaves no key of another.
    run["meta"]["outer"]["optimizer"] = {}
    store.store(group="schema", name="config", node=run, package="_global_")
    store.store(group="schema", name="tasks", node=defaults(data.Tasks))
    for name, source in SOURCES.items():
        store.store(group="schema", name=name, node=dataset_defaults(source))
    for name, network in NETWORKS.items():
        store.store(group="schema", name=name, node=defaults(network))
    OmegaConf.register_new_resolver("options", options_table, replace=True)
    OmegaConf.register_new_resolver("devices_for", devices_for, replace=True)
