"""The configuration's keys and types, and that they fit what is built from them."""

import dataclasses
import inspect
from collections.abc import Iterator

import pytest
from eosvos.meta.learning_rates import RateConfig
from eosvos.run.checks import query_weights
from eosvos.run.help import GROUPS, options
from eosvos.run.networks import finetune_config, outer_config
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from eosvos.meta.outer import GroupConfig, OuterConfig

# The public surface: dashboards, sweeps and scripts depend on these keys. Add to it; take nothing away.
KEYS = {
    "": "backbone checkpoint dataset finetune iterations logger meta output overwrite parent report results "
    "resume seed segmenter threads trainer val_every",
    "parent": "batch decay lr steps",
    "report": "hold_out rates strips tuning_videos",
    "dataset": "augment frame_window max_objects num_frames query_frames size test train val",
    "meta": "batch inner_steps max_failures mixed multi_step order outer rates step_weights train_encoder "
    "truncate_every",
    "meta.rates": "clip init level log max",
    "meta.outer": "clip cosine_to freeze_encoder name rates weights",
    "meta.outer.weights": "decay lr",
    "meta.outer.rates": "decay lr",
    "finetune": "augment batch lookahead online rate steps",
    "finetune.online": "batch every frames reset steps",
    "trainer": "accelerator devices log_every precision progress save_minutes workers",
    "logger": "csv tensorboard",
}

DATASETS = {
    "synthetic": (),
    "davis2016": ("dataset.root=x",),
    "davis2017": ("dataset.root=x",),
    "youtube_vos": ("dataset.root=x",),
    "folder": ("dataset.images=x", "dataset.masks=y"),
}
CHOICES = [
    (group, option)
    for group in ("segmenter", "backbone", "meta", "schedule", "finetune", "trainer", "logger")
    for option in options(group)
]


def test_public_keys(compose):
    cfg = compose()
    found = {path: sorted(OmegaConf.select(cfg, path) if path else cfg) for path in KEYS}
    assert found == {path: keys.split() for path, keys in KEYS.items()}


def targets(node: DictConfig) -> Iterator[DictConfig]:
    if "_target_" in node:
        yield node
    for name in node:
        if isinstance(node[name], DictConfig):
            yield from targets(node[name])


@pytest.mark.parametrize(
    "overrides",
    [(f"dataset={name}", *values) for name, values in DATASETS.items()]
    + [(f"segmenter={name}",) for name in options("segmenter")]
    + [
        (f"backbone={name}", *(("backbone.name=x",) if name == "timm" else ()))
        for name in options("backbone")
    ],
    ids=lambda overrides: overrides[0],
)
def test_keys_are_the_parameters_of_their_target(compose, overrides):
    # A parameter without a key could not be set, and a key without a parameter would fail too late.
    for node in targets(compose(*overrides)):
        if not node._target_.startswith("eosvos."):
            continue
        parameters = set(inspect.signature(get_object(node._target_)).parameters) - {"backbone"}
        assert set(node) - {"_target_"} == parameters, node._target_


@pytest.mark.parametrize(("group", "option"), CHOICES)
def test_every_option_composes_and_is_typed(compose, group, option):
    cfg = compose(f"{group}={option}")
    assert cfg.get(group, cfg.iterations)
    # Untyped nodes would let any value pass.
    assert dataclasses.is_dataclass(OmegaConf.get_type(cfg.segmenter))
    assert dataclasses.is_dataclass(OmegaConf.get_type(cfg.backbone))
    assert all(dataclasses.is_dataclass(OmegaConf.get_type(node)) for node in cfg.logger.values())


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_dataset_composes_and_is_typed(compose, dataset):
    cfg = compose(f"dataset={dataset}", *DATASETS[dataset], entry="evaluate")
    for part in ("train", "val", "test"):
        assert dataclasses.is_dataclass(OmegaConf.get_type(cfg.dataset[part]))
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


def test_defaults_are_the_papers_and_a_dataset_brings_its_own(compose):
    paper = compose("dataset=davis2017", "dataset.root=x")
    assert (paper.meta.outer.name, paper.meta.rates.level, paper.meta.batch) == ("radam", "neuron", 4)
    assert (paper.backbone.name, paper.segmenter.weights, paper.segmenter.min_size) == (
        "resnet50",
        "coco",
        800,
    )
    assert (paper.finetune.steps, paper.finetune.batch, paper.finetune.augment) == (10, 3, True)
    tiny = compose()
    assert tiny.backbone._target_.endswith("tiny_backbone")
    assert tiny.threads == 1
    assert (tiny.meta.outer.name, tiny.meta.rates.log, tiny.finetune.steps) == ("adam", True, 5)


def test_command_line_wins_over_the_dataset(compose):
    cfg = compose("segmenter=semantic", "meta=paper", "trainer.devices=2")
    assert cfg.segmenter._target_.endswith("SemanticSegmenter")
    assert cfg.backbone._target_.endswith("tiny_backbone")
    assert (cfg.meta.outer.name, cfg.trainer.devices) == ("radam", 2)


def test_a_segmenter_brings_its_length_of_the_short_schedule_only(compose):
    assert compose("segmenter=semantic").iterations > compose().iterations
    assert compose("segmenter=semantic", "schedule=paper").iterations == compose("schedule=paper").iterations
    assert compose("segmenter=semantic", "iterations=7").iterations == 7


@pytest.mark.parametrize(
    ("option", "steps", "every"),
    [
        ("e_osvos_10", 10, None),
        ("e_osvos_50", 50, None),
        ("e_osvos_50_ona", 50, 5),
        ("e_osvos_100_ona", 100, 5),
    ],
)
def test_published_presets(compose, option, steps, every):
    config = finetune_config(compose(f"finetune={option}").finetune)
    assert (config.steps, config.batch, config.augment) == (steps, 3, True)
    if every is None:
        assert config.online is None
    else:
        online = config.online
        assert (online.every, online.steps, online.batch) == (5, 10, 3)
        assert (online.reset, online.frames) == ("first_step", "oldest")


def test_config_objects_take_all_their_keys(compose):
    cfg = compose("dataset=davis2017", "dataset.root=x")
    assert outer_config(cfg.meta.outer) == OuterConfig(
        "radam",
        GroupConfig(1e-5, 1e-3),
        GroupConfig(1e-5, 0.0),
        clip=None,
        cosine_to=None,
        freeze_encoder=False,
    )
    assert RateConfig(**cfg.meta.rates) == RateConfig("neuron", 1e-3, False, None)


def test_query_weights(compose):
    last = compose("meta=paper", "meta.inner_steps=3").meta
    assert query_weights(last) == [0, 0, 1]
    every = compose("meta.inner_steps=4").meta
    assert query_weights(every) == [0.25] * 4
    own = compose("meta.inner_steps=2", "meta.step_weights=[0.3,0.7]").meta
    assert query_weights(own) == [0.3, 0.7]


def test_every_option_says_what_it_is_for():
    for group in GROUPS:
        assert options(group), group
        assert all(options(group).values()), group
