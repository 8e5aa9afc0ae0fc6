"""What Hydra composes from: the defaults of the declarations, as plain values."""

from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from eosvos.config.app import App
from eosvos.config.command_line import devices_for
from eosvos.config.components import DECLARED
from eosvos.config.help import options_table
from eosvos.config.search import Search
from eosvos.config.setting import Settings
from eosvos.config.training import Config, Dataset, Source


def defaults(declared: type[Settings]) -> dict[str, Any]:
    """The default of every setting: ??? for one without."""
    target = {"_target_": declared.target} if declared.target else {}
    return (
        target
        | dict.fromkeys(declared.model_fields, "???")
        | declared.model_construct().model_dump(warnings=False)
    )


def source_defaults(source: type[Settings]) -> dict[str, Any]:
    """A data set: what its videos have in common, and the parts of their own."""
    values = defaults(source)
    common = {name: value for name, value in values.items() if name not in source.of_part}
    # Relative, for it to have any name among others.
    part = values | {name: f"${{..{name}}}" for name in common}
    own = {name: {"split_part": name} if "split_part" in source.of_part else {} for name in source.splits}
    return {**common, **defaults(Source), **{name: part | own[name] for name in source.splits}}


def register() -> None:
    """Make the declarations known to Hydra as schema/CLASS, and the functions that config files call."""
    store = ConfigStore.instance()
    run = defaults(Config)
    # An option of meta/outer/optimizer fills it, and leaves no key of another.
    run["meta"]["outer"]["optimizer"] = {}
    run["dataset"] = defaults(Dataset)
    store.store(group="schema", name=Config.__name__, node=run, package="_global_")
    store.store(group="schema", name=App.__name__, node=defaults(App), package="_global_")
    declarations: list[type[Settings]] = [*DECLARED.values(), Search]
    for declared in declarations:
        node = source_defaults(declared) if declared.group == "dataset" else defaults(declared)
        store.store(group="schema", name=declared.__name__, node=node)
    OmegaConf.register_new_resolver("options", options_table, replace=True)
    OmegaConf.register_new_resolver("devices_for", devices_for, replace=True)
