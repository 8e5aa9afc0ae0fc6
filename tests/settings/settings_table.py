"""Every declared setting: another value of it, and where that is seen to arrive."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from effects import (
    PARTS,
    attributes,
    both_stages,
    bounded,
    by_evaluation,
    by_validation,
    callbacks,
    channels_last,
    compiled,
    detection,
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
    progress_bar_stays,
    seconds_between_checkpoints,
    size_of_logits,
    task_frames,
    task_masks,
    tensors,
    time_limits,
    told_for_a_gpu,
    trained_on,
    visualisations,
    weights,
)
from omegaconf import OmegaConf
from whole_runs import Run, first_tasks

from eosvos.config.components import DECLARED
from eosvos.config.data import Tasks
from eosvos.config.help import CONF
from eosvos.config.setting import Settings
from eosvos.config.training import Config
from eosvos.models.segmenter import Features

GROUPS = {
    **{one.__name__: str(one.group) for one in DECLARED.values()},
    "csv": "logger.csv",
    "tensorboard": "logger.tensorboard",
    "wandb": "logger.wandb",
    "progress_bar": "callbacks.progress_bar",
}
"""Where the settings of what is built by a target are found in a configuration."""
CONTAINERS = ("dataset", "segmenter", "backbone", "logger", "meta/outer/optimizer")
"""Groups whose options are composed, not set."""
FILES = {
    **{name: f"logger/{name}.yaml" for name in ("csv", "tensorboard", "wandb")},
    "progress_bar": "callbacks/default.yaml",
}
"""Where the settings of what other packages make are listed."""


def declared(settings: type[Settings], path: str = "") -> Iterator[str]:
    """The settings and, where a group can be null or be another optimiser, the group itself."""
    for name, setting in settings.model_fields.items():
        default = setting.get_default(call_default_factory=True)
        if isinstance(default, Settings):
            yield from declared(type(default), f"{path}{name}.")
        elif isinstance(default, dict):
            yield from (f"{path}{name}.{key}" for key in default if key != "_target_")
        if not isinstance(default, Settings) or "None" in str(setting.annotation):
            yield path + name


def declared_of_source(source: type[Settings]) -> Iterator[str]:
    """The settings of a data set, of all its parts and of each."""
    yield from declared(Tasks)
    for name in declared(source):
        if name not in source.of_part:
            yield name
        yield from (f"{part}.{name}" for part in source.splits)


def listed(file: str, name: str) -> Iterator[str]:
    """The settings in the file of an option."""
    values: Any = OmegaConf.to_container(OmegaConf.load(CONF / file))
    yield from (key for key in values[name] if key != "_target_")


def all_settings() -> set[str]:
    """As KEY of a whole configuration, or NAME:KEY of what is built by a target."""
    by_name: dict[str, Iterator[str]] = {
        **{
            one.__name__: declared_of_source(one) if one.group == "dataset" else declared(one)
            for one in DECLARED.values()
        },
        **{name: listed(file, name) for name, file in FILES.items()},
    }
    return {*declared(Config), *(f"{name}:{key}" for name, keys in by_name.items() for key in keys)}


TINY = (
    "segmenter=tiny_mask_rcnn backbone=tiny meta=tiny finetune=quick trainer=cpu logger=csv "
    "meta.batch_size=2 meta.inner_steps=2 "
    "trainer.enable_progress_bar=false iterations=4 val_every=4 parent.steps=4 parent.batch_size=2 "
    "final_eval.selection_videos=1"
)
PROCEDURAL = " ".join(
    f"dataset.{part}={{_target_:eosvos.data.synthetic.synthetic_videos,split:{part},num_videos:2,size:[32,48]}}"
    for part in ("val", "test")
)
BASES = {
    "Synthetic": "dataset=synthetic dataset.size=[32,48] dataset.num_frames=3 dataset.val.num_videos=4 "
    "dataset.test.num_videos=4",
    "Davis": "dataset=davis2017 dataset.root=DATA/davis",
    "YouTubeVOS": "dataset=youtube_vos dataset.root=DATA/youtube dataset.held_out=2",
    "Folder": "dataset=folder dataset.images=DATA/davis/JPEGImages/480p "
    "dataset.masks=DATA/davis/Annotations/480p",
    "Video": "dataset=video dataset.video=DATA/videos/videos dataset.masks=DATA/videos/masks",
    "Images": f"dataset=images dataset.root=DATA/stills {PROCEDURAL}",
    "VOC2012": f"dataset=voc2012 dataset.root=DATA/voc {PROCEDURAL}",
    "Coco": f"dataset=coco dataset.images=DATA/coco/images dataset.annotations=DATA/coco/a.json "
    f"dataset.min_area=9 {PROCEDURAL}",
    "TorchvisionResNet": "backbone=resnet18 backbone.weights=none backbone.fpn_channels=16 "
    "segmenter.anchor_sizes=[8,16,32,64,128]",
    "TimmBackbone": "backbone=timm backbone.name=mobilenetv3_small_050 backbone.weights=none "
    "segmenter.anchor_sizes=[8,16,32,64,128]",
    "DeepLabV3": "segmenter=deeplabv3 segmenter.weights=none backbone=resnet18 backbone.weights=none",
    "LightDeepLab": "segmenter=light_deeplab",
    "tensorboard": "logger=tensorboard",
    "wandb": "logger=wandb logger.wandb.offline=true",
}


@dataclass(frozen=True)
class Row:
    """A setting's new value, and where it is seen: each of the things that `see` returns must be another.

    also: what has to be changed with it. base: what is set before and after. key: what is set instead of the
    setting itself.
    """

    value: str
    see: Callable[[Run], Sequence[Any]]
    also: str = ""
    base: str = ""
    key: str = ""


def of_parent_optimizer(key: str) -> Callable[[Run], list[Any]]:
    return lambda run: [run.optimizer("parent")[0]["all"].param_groups[0][key]]


def seeds(run: Run) -> list[Any]:
    drawn = [task_frames(first_tasks(stage.data)) for stage in run.stages]
    drawn += [run.meta.module.seed, run.parent.module.seed, weights(run.given.learner)]
    return [*drawn, weights(run.evaluation["predictor"].adapter), *fine_tuning(run)]


SAVED = "seed=11 iterations=1 parent.steps=0 final_eval.selection_videos=0"
AUGMENTED = "finetune.augment=true"
LONGER = "meta.inner_steps=4"
ONLINE = "finetune.online.every=3 finetune.online.steps=2 finetune.online.batch_size=3"
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
            r.given.final_evaluation.folders[""].root,
            r.evaluation["folder"].root,
        ],
    ),
    "results": Row(
        "DATA/masks",
        lambda r: [r.given.final_evaluation.folders[""].root, r.evaluation["folder"].root],
        base="overwrite=true",
    ),
    "results_format": Row(
        "overlay",
        lambda r: [r.given.final_evaluation.folders[""].format, r.evaluation["folder"].format],
    ),
    "overwrite": Row(
        "true", lambda r: [r.given.error is None, "error" in r.evaluation], base="results=DATA/others"
    ),
    "submission": Row(
        "true",
        lambda r: ["submission" in r.evaluation],
        base=f"{BASES['YouTubeVOS']} dataset.test.split=valid dataset.test.part=null",
    ),
    "evaluator": Row("davis2017", lambda r: ["official" in r.evaluation], base=BASES["Davis"]),
    "iterations": Row("3", lambda r: [len(r.meta.data.train_dataloader()), r.optimizer("meta")[1](2)]),
    "minutes": Row("30", time_limits),
    "trusted": Row(
        "[someone]",
        lambda r: [*r.given.trusted, *r.evaluation["trusted"]],
        base=f"checkpoint=DATA/saved.ckpt resume=true {SAVED}",
    ),
    "val_visualisations": Row("1", lambda r: [len(r.meta.module.evaluate.drawn)]),
    "val_every": Row("2", lambda r: [r.meta.trainer.val_check_interval]),
    "dataset": Row("davis2016", every_part, base=BASES["Davis"]),
    "segmenter": Row("light_deeplab", lambda r: [type(learner(r).segmenter)]),
    "backbone": Row(
        "timm",
        lambda r: [type(learner(r).segmenter.backbone)],
        also="backbone.name=mobilenetv3_small_050 backbone.weights=none",
        base="segmenter=light_deeplab",
    ),
    "logger": Row("tensorboard", loggers),
    "parent.steps": Row("3", lambda r: [len(r.parent.data.train_dataloader()), r.optimizer("parent")[1](2)]),
    "parent.batch_size": Row("4", lambda r: [len(first_tasks(r.parent.data))]),
    "parent.objects": Row("one", lambda r: [[t.support_masks.max() > 1 for t in r.tasks("parent")]]),
    "parent.warmup_steps": Row("2", lambda r: [r.optimizer("parent")[1](0)]),
    "parent.min_lr_ratio": Row("0.5", lambda r: [r.optimizer("parent")[1](4)]),
    "parent.max_grad_norm": Row("0.5", lambda r: [r.parent.module.parent.max_grad_norm]),
    "parent.optimizer": Row(
        "torch.optim.Adam", lambda r: [type(r.optimizer("parent")[0]["all"])], key="parent.optimizer._target_"
    ),
    "parent.optimizer.lr": Row("0.5", of_parent_optimizer("initial_lr")),
    "parent.optimizer.weight_decay": Row("0.5", of_parent_optimizer("weight_decay")),
    "final_eval.lr_grid": Row("[0.2,0.5]", lambda r: [list(r.given.final_evaluation.lr_grid)]),
    "final_eval.selection_videos": Row("2", lambda r: [len(r.given.final_evaluation.selection)]),
    "final_eval.initialisation": Row("true", lambda r: [r.given.final_evaluation.as_initialised]),
    "final_eval.exclude_from_training": Row("true", trained_on, base=BASES["Davis"]),
    "final_eval.visualisations": Row("1", visualisations),
    "callbacks": Row("pytorch_lightning.callbacks.Timer", callbacks, key="+callbacks.timer._target_"),
    "meta.batch_size": Row("4", lambda r: [len(first_tasks(r.meta.data))]),
    "meta.inner_steps": Row("3", gradient, base=BASES["LightDeepLab"]),
    "meta.order": Row("second_order_heads", gradient, base=BASES["LightDeepLab"]),
    "meta.train_encoder": Row(
        "false",
        lambda r: [
            len(gradient(r)[0]),
            {p.requires_grad for p in learner(r).segmenter.backbone.parameters()},
        ],
    ),
    "meta.multi_step_loss": Row("false", gradient, base=BASES["LightDeepLab"]),
    "meta.step_weights": Row("[0.2,0.8]", gradient, base=BASES["LightDeepLab"]),
    "meta.truncate_every": Row("1", gradient, base=BASES["LightDeepLab"]),
    "meta.early_stopping.patience": Row(
        "1", gradient, also="meta.early_stopping.min_delta=9.0", base=f"{BASES['LightDeepLab']} {LONGER}"
    ),
    "meta.early_stopping.min_delta": Row(
        "9.0", gradient, base=f"{BASES['LightDeepLab']} {LONGER} meta.early_stopping.patience=1"
    ),
    "meta.max_nonfinite_iterations": Row("3", lambda r: [r.meta.module.meta.max_nonfinite_iterations]),
    "meta.inner_lr.level": Row("param", lambda r: [[p.shape for p in learner(r).inner_lrs()]]),
    "meta.inner_lr.init": Row("0.2", lambda r: [tensors(learner(r).inner_lrs_by_block().values())]),
    "meta.inner_lr.log": Row(
        "false",
        lambda r: [
            tensors(learner(r).inner_lrs()),
            {lr.log for _, lr in learner(r).named_inner_lrs()},
        ],
    ),
    "meta.inner_lr.max": Row("0.4", bounded),
    "meta.inner_lr.max_grad_norm": Row("0.01", gradient, base=BASES["LightDeepLab"]),
    "meta.outer.optimizer": Row(
        "sgd", lambda r: [type(r.optimizer("meta")[0]["all"])], key="meta/outer/optimizer"
    ),
    "meta.outer.optimizer.lr": Row("0.5", groups("initial_lr", "weights")),
    "meta.outer.optimizer.weight_decay": Row("0.5", groups("weight_decay", "weights")),
    "meta.outer.optimizer.decoupled_weight_decay": Row(
        "false", groups("decoupled_weight_decay", "weights", "inner_lr")
    ),
    "meta.outer.inner_lr.lr": Row("0.5", groups("initial_lr", "inner_lr")),
    "meta.outer.inner_lr.weight_decay": Row("0.5", groups("weight_decay", "inner_lr")),
    "meta.outer.max_grad_norm": Row("0.5", lambda r: [r.meta.module.meta.outer.max_grad_norm]),
    "meta.outer.min_lr_ratio": Row("0.5", lambda r: [r.optimizer("meta")[1](4)]),
    "meta.outer.max_grad_value": Row("0.5", lambda r: [r.meta.module.meta.outer.max_grad_value]),
    "meta.outer.freeze": Row(
        "[backbone]", lambda r: [[p.shape for p in r.optimizer("meta")[0]["weights"]["params"]]]
    ),
    "finetune.short_side": Row("32", fine_tuning),
    "finetune.steps": Row("2", fine_tuning),
    "finetune.batch_size": Row("2", fine_tuning),
    "finetune.augment": Row("true", fine_tuning),
    "finetune.distinct_copies": Row("1", fine_tuning, base="finetune.augment=true finetune.steps=3"),
    "finetune.feature_batch_size": Row("2", fine_tuning),
    # The final evaluation sets learning rates itself: the learned ones, and those of a grid.
    "finetune.fixed_lr": Row("0.5", lambda r: [by_validation(r), by_evaluation(r)]),
    "finetune.online.every": Row("4", fine_tuning, base=ONLINE),
    "finetune.online.steps": Row("3", fine_tuning, base=ONLINE),
    "finetune.online.batch_size": Row("2", fine_tuning, base=ONLINE),
    "finetune.online.reset": Row("current", fine_tuning, base=ONLINE),
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
    "trainer.devices": Row(
        "2", lambda r: [*(s.trainer.num_devices for s in r.stages), r.evaluation["processes"]]
    ),
    "trainer.precision": Row("bf16-mixed", lambda r: [s.trainer.precision for s in r.stages]),
    "trainer.matmul_precision": Row("medium", told_for_a_gpu("matmul_precision")),
    "trainer.channels_last": Row("true", channels_last),
    "trainer.compile": Row("true", compiled),
    "trainer.benchmark": Row("true", told_for_a_gpu("benchmark")),
    "trainer.num_workers": Row(
        "1", lambda r: [s.data.train_dataloader()._loader([]).num_workers for s in r.stages]
    ),
    "trainer.log_every_n_steps": Row("3", lambda r: [s.trainer.log_every_n_steps for s in r.stages]),
    "trainer.save_minutes": Row("2.5", seconds_between_checkpoints),
    "trainer.enable_progress_bar": Row("true", progress),
}


def parts(**values: str) -> dict[str, Row]:
    """A row for each of a data set's parts."""
    return {f"{part}.{key}": Row(value, see) for key, value in values.items() for part, see in PARTS.items()}


def common(**values: str) -> dict[str, Row]:
    """A row for all parts together, and for each."""
    return {**{key: Row(value, every_part) for key, value in values.items()}, **parts(**values)}


def of_train(**values: str) -> dict[str, Row]:
    """A row for a data set of pictures, and for its only part."""
    rows = {key: Row(value, trained_on) for key, value in values.items()}
    return {**rows, **{f"train.{key}": row for key, row in rows.items()}}


def of_split(base: str, *names: str, splits: Sequence[str] = tuple(PARTS)) -> dict[str, Row]:
    """Rows for a split of videos in files, of three names: DATA/NAME.json holds each in a part of its own."""
    file = f"DATA/{names[0].replace('/', '-')}.json"
    see = every_part if len(splits) > 1 else trained_on
    rows = {"split_file": Row(file, see, base=base)}
    for part in splits:
        of_this, other = (PARTS[part], "val" if part != "val" else "test")
        rows[f"{part}.split_file"] = Row(file, of_this, base=base)
        rows[f"{part}.split_part"] = Row(other, of_this, base=f"{base} dataset.split_file={file}")
    return rows


# Of every data set. Probabilities and ranges so large that each draw comes out otherwise.
DRAWING = {
    "query_frames": Row("2", lambda r: [task_frames(r.tasks("meta"))]),
    "frame_window": Row("1", lambda r: [task_frames(r.tasks("meta"))]),
    "object_groups": Row("1.0", task_masks),
    "single_object_videos": Row("augment", lambda r: [task_frames(r.tasks("meta"))]),
    "no_label": Row("1.0", task_masks, base=BASES["LightDeepLab"]),
    "label_inversion": Row("1.0", task_masks, base=BASES["LightDeepLab"]),
    "crop": Row("[16,24]", both_stages),
    "augment": Row("null", both_stages),
    "augment.copy_paste": Row("1.0", lambda r: [task_frames(r.tasks("meta"))]),
    "augment.flip": Row("1.0", both_stages, base="dataset.augment.flip=0.0"),
    "augment.rotation": Row("180", both_stages),
    "augment.scale_min": Row("0.5", both_stages),
    "augment.scale_max": Row("2.0", both_stages),
    "augment.shift": Row("0.3", both_stages),
    "augment.shear": Row("30", both_stages),
    "augment.elastic": Row("0.2", both_stages),
    "augment.frame_colours": Row("1.0", both_stages),
    "augment.brightness": Row("0.9", both_stages),
    "augment.contrast": Row("0.9", both_stages),
    "augment.saturation": Row("0.9", both_stages),
    "augment.hue": Row("0.5", both_stages),
}
# Pictures have one frame, whatever the window.
DRAWING_STILLS = {**DRAWING, "frame_window": Row("1", lambda r: [r.config.dataset.frame_window])}
DRAWING_STILLS["augment"] = Row("null", lambda r: [r.given.error is None])
UNDIVIDED = " ".join(f"dataset.{part}.{{key}}=null" for part in PARTS)
DAVIS = {
    **common(root="DATA/davis-other", year="'2016'", resolution="Full-Resolution", short_side="16"),
    **parts(split="all"),
    **of_split(UNDIVIDED.format(key="split"), "cat", "dog", "fox"),
    "sequences": Row("[cat]", every_part, base=UNDIVIDED.format(key="split")),
    "train.sequences": Row("[cat]", PARTS["train"]),
    "val.sequences": Row("[hen]", PARTS["val"]),
    "test.sequences": Row("[hen]", PARTS["test"]),
}
ALL_OF_YOUTUBE_VOS = UNDIVIDED.format(key="part")
YOUTUBE_VOS = {
    **common(root="DATA/youtube-other", held_out="3", seed="2", short_side="16"),
    **parts(part="null"),
    **of_split("", "v0", "v1", "v2"),
    "split": Row("valid", every_part, base=ALL_OF_YOUTUBE_VOS),
    "sequences": Row("[v0]", every_part, base=ALL_OF_YOUTUBE_VOS),
    **{f"{part}.split": Row("valid", see, base=ALL_OF_YOUTUBE_VOS) for part, see in PARTS.items()},
    **{f"{part}.sequences": Row("[v0]", see, base=ALL_OF_YOUTUBE_VOS) for part, see in PARTS.items()},
}
ROOTED = " ".join(
    f"dataset.{part}.images=null dataset.{part}.masks=null dataset.{part}.root=DATA/youtube/train"
    for part in PARTS
)
FOLDER = {
    **common(
        images="DATA/davis-other/JPEGImages/480p",
        masks="DATA/davis-other/Annotations/480p",
        annotated="['00000','00001']",
        sequences="[cat]",
        short_side="16",
    ),
    **of_split("", "cat", "dog", "fox"),
    "divide": Row("[1,1]", every_part),
    **{f"{part}.divide": Row("[1,1]", see) for part, see in PARTS.items()},
    "divide_seed": Row("7", every_part, base="dataset.divide=[1,1]"),
    **{f"{part}.divide_seed": Row("7", see, base="dataset.divide=[1,1]") for part, see in PARTS.items()},
    "root": Row(
        "DATA/youtube-other/train",
        every_part,
        base="dataset.images=null dataset.masks=null dataset.root=DATA/youtube/train",
    ),
    **{f"{part}.root": Row("DATA/youtube-other/train", see, base=ROOTED) for part, see in PARTS.items()},
}
SINGLE_MASKS = "dataset.masks=DATA/videos/single iterations=0"
VIDEO = {
    **common(
        video="DATA/videos-other/videos",
        masks="DATA/videos-other/masks",
        sequences="[cat]",
        short_side="16",
    ),
    **of_split("", "cat", "dog", "fox"),
    "mask_frame": Row("1", lambda r: [annotated(r, part) for part in PARTS], base=SINGLE_MASKS),
    **{
        f"{part}.mask_frame": Row("1", lambda r, part=part: [annotated(r, part)], base=SINGLE_MASKS)
        for part in PARTS
    },
}
IMAGES = {
    **of_train(
        root="DATA/stills-other",
        sets="[dogs]",
        single_object="true",
        sequences="[cats/p1]",
        short_side="16",
    ),
    **of_split("", "cats/p0", "dogs/p1", "cats/p2", splits=["train"]),
}
VOC2012 = {
    **of_train(root="DATA/voc-other", split="val", sequences="[p1]", short_side="16"),
    **of_split("", "p0", "p1", "p2", splits=["train"]),
}
COCO = {
    **of_train(
        images="DATA/coco-other/images",
        annotations="DATA/coco-other/a.json",
        sequences="[p1]",
        short_side="16",
        min_area="120.0",
    ),
    **of_split("", "p0", "p1", "p2", splits=["train"]),
}
SYNTHETIC = {
    **common(size="[40,56]", num_frames="4", max_objects="1", seed="3"),
    **parts(num_videos="3"),
    "train.split": Row("val", PARTS["train"]),
    "val.split": Row("train", PARTS["val"]),
    "test.split": Row("train", PARTS["test"]),
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
    "proposals": Row("replace", lambda r: [detection(r)[0]]),
    "prior_proposals": Row("9", lambda r: [detection(r)[0]]),
    "select": Row("score", lambda r: [detection(r)[1]]),
    "score_threshold": Row("0.3", attributes("roi_heads.score_thresh")),
    "nms_threshold": Row("0.3", attributes("roi_heads.nms_thresh")),
    "train_jitter": Row("3", attributes("roi_heads.train_jitter")),
    "head_norm": Row("false", network),
}


def annotated(run: Run, part: str) -> list[Any]:
    """Which frames of the videos of a part have a mask."""
    videos = run.videos.train[0].videos if part == "train" else getattr(run.videos, part)[""]
    return [video.annotated_frames for video in videos]


def gated(run: Run) -> list[Any]:
    """How many pixels of a frame that is all object lie where they may."""
    features = Features({"logits": torch.ones(1, 1, 64, 96)}, (64, 96))
    return [int((run.network.segment(features, 0, torch.tensor([20.0, 20.0, 40.0, 40.0])) > 0).sum())]


SEMANTIC = {
    "loss": Row("bce", lambda r: [set(r.network.losses(torch.rand(1, 3, 32, 48), torch.ones(1, 32, 48)))]),
    "min_size": Row("64", size_of_logits),
    "max_size": Row("24", size_of_logits),
    "prior": Row("gate", gated),
    "gate_margin": Row("0.5", gated, base="segmenter.prior=gate"),
}
DEEPLABV3 = {
    "weights": Row("DATA/deeplab.pth", lambda r: [weights(r.network)]),
    "output_stride": Row("16", size_of_logits),
    "decoder": Row("true", network),
    "norm": Row("frozen_batch", network),
}
LIGHT_DEEPLAB = {
    "channels": Row("32", network),
    "dilations": Row("[1,3]", network),
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
    **rows_of("Synthetic", DRAWING, SYNTHETIC),
    **rows_of("Davis", DRAWING, DAVIS),
    **rows_of("YouTubeVOS", DRAWING, YOUTUBE_VOS),
    **rows_of("Folder", DRAWING, FOLDER),
    **rows_of("Video", DRAWING, VIDEO),
    **rows_of("Images", DRAWING_STILLS, IMAGES),
    **rows_of("VOC2012", DRAWING_STILLS, VOC2012),
    **rows_of("Coco", DRAWING_STILLS, COCO),
    **rows_of("TorchvisionResNet", of_encoder("resnet34", "resnet18.pth", "frozen_batch")),
    **rows_of("TimmBackbone", of_encoder("mobilenetv3_small_075", "mobilenet.pth", "group_auto")),
    "TimmBackbone:out_indices": Row(
        "[1,2,3,4]", lambda r: [r.network.backbone.body_strides], base="backbone.out_indices=[0,1,2,3]"
    ),
    "TinyBackbone:width": Row("12", network),
    "TinyBackbone:fpn_channels": Row("24", network),
    "TinyBackbone:levels": Row("2", network, base="segmenter=light_deeplab"),
    **rows_of("MaskRCNN", MASK_RCNN),
    **rows_of("DeepLabV3", SEMANTIC, DEEPLABV3),
    **rows_of("LightDeepLab", SEMANTIC, LIGHT_DEEPLAB),
    **rows_of("csv", LOG_FOLDER),
    **rows_of("tensorboard", LOG_FOLDER),
    "tensorboard:default_hp_metric": Row("true", of_logger("_default_hp_metric")),
    "wandb:project": Row("other", of_logger("_project")),
    "wandb:name": Row("mine", of_logger("_name")),
    "wandb:save_dir": Row("DATA/log", of_logger("save_dir")),
    "wandb:offline": Row("false", of_logger("_offline")),
    "wandb:log_model": Row("true", of_logger("_log_model"), base="logger.wandb.offline=false"),
    "progress_bar:leave": Row("false", progress_bar_stays, base="trainer.enable_progress_bar=true"),
}


def overrides_of(setting: str, row: Row) -> tuple[str, str]:
    """What is set before, and the change."""
    target, _, key = setting.rpartition(":")
    base = f"{BASES.get(target, '')} {row.base}"
    data = "" if "dataset=" in base else BASES["Synthetic"]
    path = row.key or (f"{GROUPS[target]}.{key}" if target else key)
    return f"{TINY} {data} {base}", f"{path}={row.value} {row.also}"
