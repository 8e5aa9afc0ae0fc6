"""Every declared setting: another value of it, and where that is seen to arrive."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING as NOTHING
from dataclasses import Field, dataclass, fields, is_dataclass
from typing import Any

import torch
from eosvos.run.components import COMPONENTS
from eosvos.run.schema import Config
from sightings import (
    PARTS,
    attributes,
    both_stages,
    bounded,
    by_evaluation,
    by_validation,
    every_part,
    fine_tuning,
    gradient,
    groups,
    learner,
    loggers,
    network,
    network_size,
    of_logger,
    progress,
    save_seconds,
    saved_every,
    strips,
    task_frames,
    tensors,
    trained_on,
    weights,
)
from whole_runs import Run, first_tasks

GROUPS = {
    "synthetic": "dataset",
    "davis": "dataset",
    "youtube_vos": "dataset",
    "folder": "dataset",
    "torchvision_resnet": "backbone",
    "timm_backbone": "backbone",
    "tiny_backbone": "backbone",
    "mask_rcnn": "segmenter",
    "semantic": "segmenter",
    "csv": "logger.csv",
    "tensorboard": "logger.tensorboard",
    "wandb": "logger.wandb",
}
"""Where the settings of each target are found in a configuration."""
CONTAINERS = ("dataset", "segmenter", "backbone", "logger")


def declared(node: type, path: str) -> Iterator[str]:
    for field in fields(node):
        name = f"{path}{field.name}"
        group = group_of(field)
        if group is not None:
            yield from declared(group, f"{name}.")
        if (group is None or "None" in str(field.type)) and field.name != "_target_":
            yield name


def group_of(field: Field) -> type | None:
    factory: Any = field.default_factory
    return factory if factory is not NOTHING and is_dataclass(factory) else None


def all_settings() -> set[str]:
    """As KEY of a whole configuration, or TARGET:KEY of what is built by a target."""
    found = set(declared(Config, ""))
    for target, node in COMPONENTS.items():
        found |= set(declared(node, f"{target}:"))
    return found


TINY = (
    "segmenter=tiny_mask_rcnn backbone=tiny meta=tiny finetune=quick trainer=cpu schedule=minutes logger=csv "
    "meta.batch=2 meta.inner_steps=2 "
    "trainer.progress=false iterations=4 val_every=4 parent.steps=4 parent.batch=2 report.tuning_videos=1"
)
BASES = {
    "synthetic": "dataset=synthetic dataset.size=[32,48] dataset.num_frames=3 dataset.val.count=4 "
    "dataset.test.count=4",
    "davis": "dataset=davis2017 dataset.root=DATA/davis",
    "youtube_vos": "dataset=youtube_vos dataset.root=DATA/youtube dataset.train.held_out=2 "
    "dataset.val.held_out=2 dataset.test.held_out=2",
    "folder": "dataset=folder dataset.images=DATA/davis/JPEGImages/480p "
    "dataset.masks=DATA/davis/Annotations/480p",
    "torchvision_resnet": "backbone=resnet18 backbone.weights=none backbone.fpn_channels=16 "
    "segmenter.anchor_sizes=[8,16,32,64,128]",
    "timm_backbone": "backbone=timm backbone.name=mobilenetv3_small_050 backbone.weights=none "
    "segmenter.anchor_sizes=[8,16,32,64,128]",
    "semantic": "segmenter=semantic",
    "tensorboard": "logger=tensorboard",
    "wandb": "logger=wandb logger.wandb.offline=true",
}


@dataclass(frozen=True)
class Row:
    """A setting's new value, and where it is seen: each of the things that `see` returns must be another.

    also: what has to be changed with it. base: what is set before and after.
    """

    value: str
    see: Callable[[Run], Sequence[Any]]
    also: str = ""
    base: str = ""


def seeds(run: Run) -> list[Any]:
    drawn = [task_frames(first_tasks(stage.data)) for stage in run.stages]
    drawn += [run.meta.module.seed, run.parent.module.seed, weights(run.given.learner)]
    return [*drawn, weights(run.evaluation["predictor"].adapter), *fine_tuning(run)]


SAVED = "seed=11 iterations=1 parent.steps=0 report.tuning_videos=0"
AUGMENTED = "finetune.augment=true"
ONLINE = "finetune.online.every=3 finetune.online.steps=2 finetune.online.batch=3"
PLAIN = {
    "seed": Row("5", seeds, base=AUGMENTED),
    "threads": Row("3", lambda r: [r.given.threads]),
    "checkpoint": Row(
        "DATA/saved.ckpt", lambda r: [weights(r.given.learner), weights(r.evaluation["predictor"].adapter)]
    ),
    "resume": Row(
        "true", lambda r: [r.meta.options["ckpt_path"]], base=f"checkpoint=DATA/saved.ckpt {SAVED}"
    ),
    "output": Row(
        "DATA/elsewhere",
        lambda r: [
            r.meta.trainer.default_root_dir,
            r.given.comparison.folder.root,
            r.evaluation["folder"].root,
        ],
    ),
    "results": Row(
        "DATA/masks",
        lambda r: [r.given.comparison.folder.root, r.evaluation["folder"].root],
        base="overwrite=true",
    ),
    "overwrite": Row(
        "true", lambda r: [r.given.error is None, "error" in r.evaluation], base="results=DATA/others"
    ),
    "iterations": Row("3", lambda r: [len(r.meta.data.train_dataloader()), r.optimizer("meta")[1](2)]),
    "val_every": Row("2", saved_every),
    "dataset": Row("davis2016", every_part, base=BASES["davis"]),
    "segmenter": Row("semantic", lambda r: [type(learner(r).segmenter)]),
    "backbone": Row(
        "timm",
        lambda r: [type(learner(r).segmenter.backbone)],
        also="backbone.name=mobilenetv3_small_050 backbone.weights=none",
        base="segmenter=semantic",
    ),
    "logger": Row("tensorboard", loggers),
    "parent.steps": Row("3", lambda r: [len(r.parent.data.train_dataloader()), r.optimizer("parent")[1](2)]),
    "parent.batch": Row("4", lambda r: [len(first_tasks(r.parent.data))]),
    "parent.lr": Row("0.5", lambda r: [r.optimizer("parent")[0]["all"].param_groups[0]["initial_lr"]]),
    "parent.decay": Row("0.5", lambda r: [r.optimizer("parent")[0]["all"].param_groups[0]["weight_decay"]]),
    "report.rates": Row("[0.2,0.5]", lambda r: [list(r.given.comparison.rates)]),
    "report.tuning_videos": Row("2", lambda r: [len(r.given.comparison.tuning)]),
    "report.hold_out": Row("true", trained_on, base=BASES["davis"]),
    "report.strips": Row("1", strips),
    "meta.batch": Row("4", lambda r: [len(first_tasks(r.meta.data))]),
    "meta.inner_steps": Row("3", gradient, base=BASES["semantic"]),
    "meta.mixed": Row("1.0", lambda r: [task_frames(r.tasks("meta"))]),
    "meta.order": Row("heads", gradient, base=BASES["semantic"]),
    "meta.train_encoder": Row(
        "false",
        lambda r: [
            len(gradient(r)[0]),
            {p.requires_grad for p in learner(r).segmenter.backbone.parameters()},
        ],
    ),
    "meta.multi_step": Row("false", gradient, base=BASES["semantic"]),
    "meta.step_weights": Row("[0.2,0.8]", gradient, base=BASES["semantic"]),
    "meta.truncate_every": Row("1", gradient, base=BASES["semantic"]),
    "meta.max_failures": Row("3", lambda r: [r.meta.module.max_failures]),
    "meta.rates.level": Row("param", lambda r: [[p.shape for p in learner(r).rates()]]),
    "meta.rates.init": Row("0.2", lambda r: [learner(r).rate_statistics()["rates/mean"]]),
    "meta.rates.log": Row(
        "false",
        lambda r: [
            tensors(learner(r).rates()),
            {rate.log for _, rate in learner(r).named_rates()},
        ],
    ),
    "meta.rates.max": Row("0.4", bounded),
    "meta.rates.clip": Row("0.01", gradient, base=BASES["semantic"]),
    "meta.outer.name": Row("radam", lambda r: [type(r.optimizer("meta")[0]["all"])]),
    "meta.outer.weights.lr": Row("0.5", groups("initial_lr", "encoder", "heads")),
    "meta.outer.weights.decay": Row("0.5", groups("weight_decay", "encoder", "heads")),
    "meta.outer.rates.lr": Row("0.5", groups("initial_lr", "rates")),
    "meta.outer.rates.decay": Row("0.5", groups("weight_decay", "rates")),
    "meta.outer.clip": Row("0.5", lambda r: [r.meta.module.outer.clip]),
    "meta.outer.cosine_to": Row("0.5", lambda r: [r.optimizer("meta")[1](4)]),
    "meta.outer.freeze_encoder": Row("true", groups("initial_lr", "encoder")),
    "finetune.steps": Row("2", fine_tuning),
    "finetune.batch": Row("2", fine_tuning),
    "finetune.augment": Row("true", fine_tuning),
    "finetune.lookahead": Row("2", fine_tuning),
    # The report sets rates itself: the learned ones, and those of a grid.
    "finetune.rate": Row("0.5", lambda r: [by_validation(r), by_evaluation(r)]),
    "finetune.online.every": Row("4", fine_tuning, base=ONLINE),
    "finetune.online.steps": Row("3", fine_tuning, base=ONLINE),
    "finetune.online.batch": Row("2", fine_tuning, base=ONLINE),
    "finetune.online.reset": Row("none", fine_tuning, base=ONLINE),
    "finetune.online.frames": Row("latest", fine_tuning, base=ONLINE),
    "trainer.accelerator": Row(
        "auto",
        lambda r: [
            r.meta.trainer.given["accelerator"],
            r.parent.trainer.given["accelerator"],
            r.given.device,
            r.evaluation["device"],
        ],
    ),
    "trainer.devices": Row("2", lambda r: [s.trainer.num_devices for s in r.stages]),
    "trainer.precision": Row("bf16-mixed", lambda r: [s.trainer.precision for s in r.stages]),
    "trainer.workers": Row(
        "1", lambda r: [s.data.train_dataloader()._loader([]).num_workers for s in r.stages]
    ),
    "trainer.save_minutes": Row("7", save_seconds),
    "trainer.log_every": Row("3", lambda r: [s.trainer.log_every_n_steps for s in r.stages]),
    "trainer.progress": Row("true", progress),
}


def parts(**values: str) -> dict[str, Row]:
    """A row for each of a data set's parts."""
    return {f"{part}.{key}": Row(value, see) for key, value in values.items() for part, see in PARTS.items()}


# Of every data set. Probabilities and ranges so large that each draw comes out otherwise.
DRAWING = {
    "query_frames": Row("2", lambda r: [task_frames(r.tasks("meta"))]),
    "frame_window": Row("1", lambda r: [task_frames(r.tasks("meta"))]),
    "augment": Row("null", both_stages),
    "augment.flip": Row("1.0", both_stages, base="dataset.augment.flip=0.0"),
    "augment.rotation": Row("180", both_stages),
    "augment.scale_min": Row("0.5", both_stages),
    "augment.scale_max": Row("2.0", both_stages),
    "augment.brightness": Row("0.9", both_stages),
    "augment.contrast": Row("0.9", both_stages),
    "augment.saturation": Row("0.9", both_stages),
    "augment.hue": Row("0.5", both_stages),
}
DAVIS = {
    "root": Row("DATA/davis-other", every_part),
    "resolution": Row("Full-Resolution", every_part),
    **parts(root="DATA/davis-other", year="'2016'", resolution="Full-Resolution", split="all"),
    **parts(short_side="16"),
    "train.sequences": Row("[cat]", PARTS["train"]),
    "val.sequences": Row("[hen]", PARTS["val"]),
    "test.sequences": Row("[hen]", PARTS["test"]),
}
YOUTUBE_VOS = {
    "root": Row("DATA/youtube-other", every_part),
    **parts(root="DATA/youtube-other", held_out="3", seed="2", short_side="16"),
    **{f"{part}.part": Row("null", see) for part, see in PARTS.items()},
    **{f"{part}.split": Row("valid", see, base=f"dataset.{part}.part=null") for part, see in PARTS.items()},
    **{
        f"{part}.sequences": Row("[v0]", see, base=f"dataset.{part}.part=null") for part, see in PARTS.items()
    },
}
FOLDER = {
    "images": Row("DATA/davis-other/JPEGImages/480p", every_part),
    "masks": Row("DATA/davis-other/Annotations/480p", every_part),
    "annotated": Row("['00000','00002']", every_part),
    **parts(
        images="DATA/davis-other/JPEGImages/480p",
        masks="DATA/davis-other/Annotations/480p",
        annotated="['00000','00002']",
        sequences="[cat]",
        short_side="16",
    ),
}
SYNTHETIC = {
    "size": Row("[40,56]", every_part),
    "num_frames": Row("4", every_part),
    "max_objects": Row("1", every_part),
    **parts(size="[40,56]", num_frames="4", max_objects="1", seed="3"),
    "val.count": Row("3", PARTS["val"]),
    "test.count": Row("3", PARTS["test"]),
    "val.range_name": Row("train", PARTS["val"]),
    "test.range_name": Row("train", PARTS["test"]),
}
ENCODER = {
    "fpn_channels": Row("24", network),
    "frozen_stages": Row("1", network),
}
MASK_RCNN = {
    "weights": Row("DATA/detector.pth", lambda r: [weights(r.network)]),
    "variant": Row(
        "torchvision",
        attributes(
            "rpn.box_beta", "roi_heads.box_beta", "rpn.anchor_generator.float_strides", "transform.draw_size"
        ),
    ),
    "min_size": Row("32", network_size),
    "max_size": Row("80", network_size, base="segmenter.min_size=64"),
    "anchor_sizes": Row("[10,20,40]", attributes("rpn.anchor_generator.sizes")),
    "anchor_ratios": Row("[0.5,1.0,2.0]", attributes("rpn.anchor_generator.aspect_ratios")),
    "rpn_proposals_train": Row("7", lambda r: proposals(r, training=True)),
    "rpn_proposals_test": Row("7", lambda r: proposals(r, training=False)),
    "rpn_samples": Row("8", attributes("rpn.fg_bg_sampler.batch_size_per_image")),
    "roi_samples": Row("8", attributes("roi_heads.fg_bg_sampler.batch_size_per_image")),
    "box_roi": Row("5", attributes("roi_heads.box_roi_pool.output_size")),
    "box_features": Row("24", network),
    "mask_roi": Row("10", attributes("roi_heads.mask_roi_pool.output_size")),
    "sampling_ratio": Row(
        "2", attributes("roi_heads.box_roi_pool.sampling_ratio", "roi_heads.mask_roi_pool.sampling_ratio")
    ),
    "mask_channels": Row("24", network),
    "mask_layers": Row("3", network),
    "mask_loss": Row("bce", attributes("roi_heads.mask_loss")),
    "proposals": Row("replace", attributes("prior_proposals.mode")),
    "prior_proposals": Row("9", attributes("prior_proposals.count")),
    "select": Row("score", attributes("select")),
    "score_threshold": Row("0.3", attributes("roi_heads.score_thresh")),
    "nms_threshold": Row("0.3", attributes("roi_heads.nms_thresh")),
    "train_jitter": Row("3", attributes("roi_heads.train_jitter")),
    "head_norm": Row("false", network),
}
SEMANTIC = {
    "loss": Row("bce", attributes("loss_functions")),
    "channels": Row("32", network),
    "rates": Row("[1,3]", network),
    "min_size": Row("64", lambda r: [r.network(torch.rand(1, 3, 32, 48)).shape]),
    "max_size": Row("24", lambda r: [r.network(torch.rand(1, 3, 32, 48)).shape]),
}
LOG_FOLDER = {
    "save_dir": Row("DATA/log", of_logger("log_dir")),
    "name": Row("mine", of_logger("log_dir")),
    "version": Row("7", of_logger("log_dir")),
}


def proposals(run: Run, training: bool) -> list[Any]:
    rpn = run.network.rpn.train(training)
    return [rpn.pre_nms_top_n(), rpn.post_nms_top_n()]


def rows_of(target: str, *tables: dict[str, Row]) -> dict[str, Row]:
    return {f"{target}:{key}": row for table in tables for key, row in table.items()}


def of_encoder(name: str, file: str, norm: str) -> dict[str, Row]:
    file_row = Row(f"DATA/{file}", lambda r: [weights(r.network)])
    return {**ENCODER, "weights": file_row, "name": Row(name, network), "norm": Row(norm, network)}


ROWS = {
    **PLAIN,
    **rows_of("synthetic", DRAWING, SYNTHETIC),
    **rows_of("davis", DRAWING, DAVIS),
    **rows_of("youtube_vos", DRAWING, YOUTUBE_VOS),
    **rows_of("folder", DRAWING, FOLDER),
    **rows_of("torchvision_resnet", of_encoder("resnet34", "resnet18.pth", "frozen_batch")),
    **rows_of("timm_backbone", of_encoder("mobilenetv3_small_075", "mobilenet.pth", "group_auto")),
    "timm_backbone:out_indices": Row(
        "[1,2,3,4]", lambda r: [r.network.backbone.body_strides], base="backbone.out_indices=[0,1,2,3]"
    ),
    "tiny_backbone:width": Row("12", network),
    "tiny_backbone:fpn_channels": Row("24", network),
    "tiny_backbone:levels": Row("2", network, base="segmenter=semantic"),
    **rows_of("mask_rcnn", MASK_RCNN),
    **rows_of("semantic", SEMANTIC),
    **rows_of("csv", LOG_FOLDER),
    **rows_of("tensorboard", LOG_FOLDER),
    "tensorboard:default_hp_metric": Row("true", of_logger("_default_hp_metric")),
    "wandb:project": Row("other", of_logger("_project")),
    "wandb:name": Row("mine", of_logger("_name")),
    "wandb:save_dir": Row("DATA/log", of_logger("save_dir")),
    "wandb:offline": Row("false", of_logger("_offline")),
}


def overrides_of(setting: str, row: Row) -> tuple[str, str]:
    """What is set before, and the change."""
    target, _, key = setting.rpartition(":")
    base = f"{BASES.get(target, '')} {row.base}"
    data = "" if "dataset=" in base else BASES["synthetic"]
    path = f"{GROUPS[target]}.{key}" if target else key
    return f"{TINY} {data} {base}", f"{path}={row.value} {row.also}"
