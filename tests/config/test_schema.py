"""The configuration's keys and types, and that they fit what is built from them."""

import inspect

import pytest
from helpers import KINDS, SMALL, compose, config, given
from hydra.utils import get_object
from omegaconf import OmegaConf

from eosvos.config.components import DECLARED
from eosvos.config.help import GROUPS, options
from eosvos.config.inference import Finetune, Online
from eosvos.config.meta import RADAM, InnerLR, InnerLRGroup, Meta, Outer
from eosvos.config.schema import defaults
from eosvos.config.training import Config

# The public surface: dashboards, sweeps and scripts depend on these keys. Add to it; take nothing away.
KEYS = {
    "": "backbone callbacks checkpoint dataset evaluator final_eval finetune iterations logger meta "
    "minutes output overwrite parent results results_format resume seed segmenter submission threads trainer "
    "trusted val_every val_visualisations",
    "parent": "batch_size max_grad_norm min_lr_ratio objects optimizer steps warmup_steps",
    "parent.optimizer": "_target_ lr weight_decay",
    "final_eval": "exclude_from_training initialisation lr_grid selection_videos visualisations",
    "dataset": "_target_ augment crop frame_window label_inversion max_objects no_label num_frames "
    "object_groups query_frames seed single_object_videos size test train val weight",
    "dataset.augment": "brightness contrast copy_paste elastic flip frame_colours hue rotation saturation "
    "scale_max scale_min shear shift",
    "meta": "batch_size early_stopping inner_lr inner_steps max_nonfinite_iterations multi_step_loss order "
    "outer step_weights train_encoder truncate_every",
    "meta.early_stopping": "min_delta patience",
    "meta.inner_lr": "init level log max max_grad_norm",
    "meta.outer": "freeze inner_lr max_grad_norm max_grad_value min_lr_ratio optimizer",
    "meta.outer.optimizer": "_target_ decoupled_weight_decay lr weight_decay",
    "meta.outer.inner_lr": "lr weight_decay",
    "finetune": "augment batch_size distinct_copies feature_batch_size fixed_lr online short_side steps",
    "finetune.online": "batch_size every frames reset steps",
    "trainer": "accelerator benchmark channels_last compile devices enable_progress_bar log_every_n_steps "
    "matmul_precision num_workers precision save_minutes",
    "logger": "csv tensorboard",
    "callbacks": "progress_bar",
}

STILLS = ("dataset.val=${dataset.train}", "dataset.test=${dataset.train}")
DATASETS = {
    "synthetic": (),
    "procedural": (),
    "davis2016": ("dataset.root=x",),
    "davis2017": ("dataset.root=x",),
    "youtube_vos": ("dataset.root=x",),
    "folder": ("dataset.images=x", "dataset.masks=y"),
    "video": ("dataset.video=x", "dataset.masks=y"),
    "images": ("dataset.root=x", *STILLS),
    "voc2012": ("dataset.root=x", *STILLS),
    "coco": ("dataset.images=x", "dataset.annotations=x", *STILLS),
}
# What an option needs to be complete.
WITH = {
    "backbone=timm": ("backbone.name=x",),
    "segmenter=mask_rcnn": ("segmenter.weights=none",),
    "segmenter=deeplabv3": ("backbone=resnet50",),
    "segmenter=deeplabv3plus": ("backbone=resnet101",),
    "experiment=domain": ("dataset.images=x", "dataset.masks=y"),
    "experiment=real_video": ("dataset.root=x",),
    "experiment=e_osvos": ("dataset.youtube_vos.root=x", "dataset.davis2017.root=x"),
    **{
        f"experiment=e_osvos_davis{year}": ("dataset.root=x", f"checkpoint={__file__}")
        for year in (2016, 2017)
    },
}
CHOICES = [
    *(f"{group}={option}" for group in GROUPS if group != "dataset" for option in options(group)),
    *(f"meta/outer/optimizer={option}" for option in options("meta/outer/optimizer")),
    *(f"experiment=ablations/{option}" for option in options("experiment/ablations")),
]


def test_public_keys():
    cfg = compose()
    found = {path: sorted(OmegaConf.select(cfg, path) if path else cfg) for path in KEYS}
    assert found == {path: keys.split() for path, keys in KEYS.items()}


@pytest.mark.parametrize(
    "overrides",
    [
        (*SMALL, *KINDS),
        ("dataset.train=null", "dataset.val={num_videos:3,size:[32,32]}", "dataset.test=${dataset.val}"),
        ("dataset=davis2017", "dataset.root='a b'", "+meta.outer.optimizer.eps=1", "seed=7"),
        ("meta/outer/optimizer=sgd", "meta.outer.optimizer.lr=1e-3", "logger=[csv]", "~dataset.query_frames"),
    ],
)
def test_values_that_are_set_afterwards_are_those_that_hydra_composes(overrides):
    for entry in ("train", "evaluate"):
        assert given(*overrides, entry=entry, output="x") == compose(*overrides, entry=entry, output="x")


@pytest.mark.parametrize("target", DECLARED)
def test_what_is_declared_takes_its_settings_whole(target):
    parameters = inspect.signature(get_object(target), eval_str=True).parameters.values()
    # But for the backbone of a segmenter, nothing else is needed.
    needed = [one for one in parameters if one.default is one.empty and one.name != "backbone"]
    assert [one.annotation for one in needed] == [DECLARED[target]]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_option_composes_and_is_checked(choice):
    cfg = compose(choice, *WITH.get(choice, ()))
    assert config(choice, *WITH.get(choice, ())).iterations == cfg.iterations
    # Every setting is there to be set, and others are refused.
    for part in (cfg.segmenter, cfg.backbone):
        assert set(part) == {"_target_", *DECLARED[part._target_].model_fields}
        assert OmegaConf.is_struct(part)
    for node in (*cfg.logger.values(), *cfg.callbacks.values()):
        parameters = set(inspect.signature(get_object(node._target_)).parameters)
        assert set(node) - {"_target_"} <= parameters
        assert OmegaConf.is_struct(node)


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_dataset_composes_and_is_checked(dataset):
    assert {*DATASETS, "mixture", "youtube_vos_davis2017"} == set(options("dataset"))
    cfg = compose(f"dataset={dataset}", *DATASETS[dataset], entry="evaluate")
    checked = config(f"dataset={dataset}", *DATASETS[dataset], entry="evaluate").dataset
    for part in ("train", "val", "test"):
        declared = DECLARED[cfg.dataset[part]._target_]
        assert set(cfg.dataset[part]) == {"_target_", *declared.model_fields}
        assert set(getattr(checked, part)) == {"_target_", *declared.model_fields}
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


def test_a_key_of_a_dataset_is_that_of_its_parts_unless_they_have_their_own():
    checked = config("dataset.num_frames=4", "dataset.val.num_frames=5", "dataset.size=[32,48]").dataset
    assert [part["num_frames"] for part in (checked.train, checked.val, checked.test)] == [4, 5, 4]
    assert [part["size"] for part in (checked.train, checked.val, checked.test)] == [[32, 48]] * 3


def test_defaults_are_the_papers_and_a_dataset_brings_its_own():
    paper = config("dataset=davis2017", "dataset.root=x")
    assert paper.meta.outer.optimizer["_target_"] == "torch.optim.RAdam"
    assert (paper.meta.inner_lr.level, paper.meta.batch_size) == ("neuron", 4)
    assert paper.backbone["name"] == "resnet50"
    assert (paper.segmenter["weights"], paper.segmenter["min_size"]) == ("coco", 800)
    assert (paper.finetune.steps, paper.finetune.batch_size, paper.finetune.augment) == (10, 3, True)
    tiny = config()
    assert tiny.backbone["_target_"].endswith("tiny_backbone")
    assert tiny.threads == 1
    assert tiny.meta.outer.optimizer["_target_"] == "torch.optim.Adam"
    assert (tiny.meta.inner_lr.log, tiny.finetune.steps) == (True, 5)


def test_command_line_wins_over_the_dataset():
    checked = config("segmenter=light_deeplab", "meta=paper", "trainer.devices=2")
    assert checked.segmenter["_target_"].endswith("LightDeepLab")
    assert checked.backbone["_target_"].endswith("tiny_backbone")
    assert checked.meta.outer.optimizer["_target_"] == "torch.optim.RAdam"
    assert checked.trainer.devices == 2


def test_an_experiment_wins_over_the_dataset_and_the_command_line_over_both():
    light = "experiment=synthetic_light_deeplab"
    assert compose(light).segmenter._target_ == compose("segmenter=light_deeplab").segmenter._target_
    assert compose("segmenter=light_deeplab").iterations == compose().iterations < compose(light).iterations
    assert compose(light, "iterations=7").iterations == 7
    small = ("dataset=davis2016", "dataset.root=x", "experiment=small")
    assert compose(*small).iterations < compose(*small[:2]).iterations
    assert compose(*small).segmenter.min_size == 240
    assert compose(*small, "segmenter=mask_rcnn").segmenter.min_size == 800


@pytest.mark.parametrize("option", options("meta/outer/optimizer"))
def test_an_optimiser_leaves_no_key_of_another(option):
    import torch

    optimizer = dict(config("meta=paper", f"meta/outer/optimizer={option}").meta.outer.optimizer)
    made = get_object(optimizer.pop("_target_"))([torch.zeros(1)], **optimizer)
    assert made.defaults["lr"] == optimizer["lr"]


@pytest.mark.parametrize(
    ("option", "steps", "every"),
    [
        ("e_osvos_10", 10, None),
        ("e_osvos_50", 50, None),
        ("e_osvos_50_ona", 50, 5),
        ("e_osvos_100_ona", 100, 5),
    ],
)
def test_published_presets(option, steps, every):
    assert config(f"finetune={option}").finetune == Finetune(
        steps=steps,
        batch_size=3,
        augment=True,
        fixed_lr=None,
        online=Online(every=every, steps=10, batch_size=3, reset="first_frame", frames="oldest"),
    )


def test_the_fast_preset_is_published_fine_tuning_in_fewer_steps_on_smaller_frames():
    assert config("finetune=fast").finetune == Finetune(steps=5, short_side=240)


def test_the_papers_meta_training():
    meta = config("dataset=davis2017", "dataset.root=x").meta
    assert meta.outer == Outer(
        optimizer=RADAM,
        inner_lr=InnerLRGroup(lr=1e-5, weight_decay=0.0),
        max_grad_value=None,
        max_grad_norm=None,
        min_lr_ratio=None,
        freeze=[],
    )
    assert meta.outer.optimizer["lr"] == 1e-5
    assert meta.outer.optimizer["weight_decay"] == 1e-3
    assert meta.inner_lr == InnerLR(level="neuron", init=1e-3, log=False, max=None, max_grad_norm=None)
    # Nothing else than what is declared.
    assert meta == Meta()


def test_published_trainings():
    paper = Meta()
    both = config("experiment=e_osvos", *WITH["experiment=e_osvos"])
    assert (both.meta, list(both.dataset.sources)) == (paper, ["davis2017", "youtube_vos"])
    frozen = {"freeze": ["backbone", "rpn"], "inner_lr": InnerLRGroup(lr=0.0, weight_decay=0.0)}
    for year in ("2016", "2017"):
        name = f"experiment=e_osvos_davis{year}"
        transfer = config(name, *WITH[name])
        assert transfer.meta == paper.model_copy(update={"outer": paper.outer.model_copy(update=frozen)})
        assert transfer.dataset.train["year"] == year


def test_defaults_are_what_the_declarations_say():
    plain = OmegaConf.to_container(OmegaConf.create(defaults(Config)))
    assert plain["parent"]["optimizer"] == {
        "_target_": "torch.optim.AdamW",
        "lr": 1e-4,
        "weight_decay": 1e-4,
    }
    assert plain["dataset"] == plain["segmenter"] == plain["output"] == "???"


def test_query_weights():
    last = config("meta=paper", "meta.inner_steps=3").meta
    assert last.query_weights == [0, 0, 1]
    every = config("meta.inner_steps=4").meta
    assert every.query_weights == [0.25] * 4
    own = config("meta.inner_steps=2", "meta.step_weights=[0.3,0.7]").meta
    assert own.query_weights == [0.3, 0.7]


def test_every_option_says_what_it_is_for():
    for group in (*GROUPS, "meta/outer/optimizer"):
        assert options(group), group
        assert all(options(group).values()), group
