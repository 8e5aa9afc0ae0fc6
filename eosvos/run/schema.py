"""The shape of the configuration: names, types, ranges and choices of every key, without torch.

Hydra merges each config file and each override into these dataclasses, so that a key that does not exist or a
value of the wrong type fails while the configuration is composed. What a key means stands beside its value,
in conf/.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from eosvos.run.rules import location, one_of, within


@dataclass
class Rates:
    """Learning rates of the inner loop."""

    level: str = one_of("single", "tensor", "neuron", "param")
    init: float = within(above=0)
    log: bool = MISSING
    max: float | None = within(above=0)
    clip: float | None = within(above=0)


@dataclass
class OuterGroup:
    """A group of meta-parameters."""

    lr: float = within(low=0)
    decay: float = within(low=0)


@dataclass
class Outer:
    """The outer optimiser."""

    name: str = one_of("radam", "adam")
    weights: OuterGroup = field(default_factory=OuterGroup)
    rates: OuterGroup = field(default_factory=OuterGroup)
    clip: float | None = within(above=0)
    cosine_to: float | None = within(low=0, high=1)
    freeze_encoder: bool = MISSING


@dataclass
class Meta:
    """Meta-learning."""

    batch: int = within(low=1)
    inner_steps: int = within(low=1)
    mixed: float = within(low=0, high=1)
    order: str = one_of("first", "heads", "full")
    train_encoder: bool = MISSING
    multi_step: bool = MISSING
    step_weights: list[float] | None = within(low=0)
    truncate_every: int | None = within(low=1)
    max_failures: int = within(low=1)
    rates: Rates = field(default_factory=Rates)
    outer: Outer = field(default_factory=Outer)


@dataclass
class Parent:
    """Supervised training before meta-learning."""

    steps: int = within(low=0)
    batch: int = within(low=1)
    lr: float = within(above=0)
    decay: float = within(low=0)


@dataclass
class Report:
    """The table at the end of a training run."""

    rates: list[float] = within(above=0, entries=(2, None))
    tuning_videos: int = within(low=0)
    hold_out: bool = MISSING
    strips: int = within(low=0)


@dataclass
class Online:
    """Adaptation to the video while it is segmented."""

    every: int | None = within(low=1)
    steps: int = within(low=1)
    batch: int = within(low=1)
    reset: str = one_of("first_step", "full", "none")
    frames: str = one_of("oldest", "latest")


@dataclass
class Finetune:
    """Fine-tuning on the annotated frame."""

    steps: int = within(low=0)
    batch: int = within(low=1)
    augment: bool = MISSING
    lookahead: int = within(low=1)
    rate: float | None = within(above=0)
    online: Online = field(default_factory=Online)


@dataclass
class Trainer:
    """Hardware, and what is shown while it works."""

    accelerator: str = one_of("auto", "cpu", "gpu")
    devices: int = within(low=1)
    precision: str = one_of("32-true", "bf16-mixed")
    workers: int = within(low=0)
    log_every: int = within(low=1)
    save_minutes: float | None = within(above=0)
    progress: bool = MISSING


@dataclass
class Config:
    """Everything that train.py and evaluate.py read."""

    seed: int = within(low=0, high=2**32 - 1)
    threads: int | None = within(low=1)
    checkpoint: str | None = location()
    resume: bool = MISSING
    output: str = location()
    results: str | None = location()
    overwrite: bool = MISSING
    iterations: int = within(low=0)
    val_every: int = within(low=1)
    parent: Parent = field(default_factory=Parent)
    report: Report = field(default_factory=Report)
    dataset: Any = MISSING
    segmenter: Any = MISSING
    backbone: Any = MISSING
    meta: Meta = field(default_factory=Meta)
    finetune: Finetune = field(default_factory=Finetune)
    trainer: Trainer = field(default_factory=Trainer)
    logger: dict[str, Any] = field(default_factory=dict)


def register() -> None:
    """Make the schema known to Hydra: `config` for the whole, `schema/<name>` for what a `_target_` takes.

    And the functions that config files call.
    """
    from eosvos.run.command_line import devices_for
    from eosvos.run.components import COMPONENTS
    from eosvos.run.help import options_table

    store = ConfigStore.instance()
    store.store(name="config", node=Config)
    for name, component in COMPONENTS.items():
        store.store(group="schema", name=name, node=component)
    OmegaConf.register_new_resolver("options", options_table, replace=True)
    OmegaConf.register_new_resolver("devices_for", devices_for, replace=True)
