"""What can be said of a configuration before torch is imported: ranges, choices, combinations, files."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from eosvos.errors import UserError, suggest
from eosvos.run.command_line import overridden, run_mode
from eosvos.run.instantiate import build

MASK_RCNN = "eosvos.models.mask_rcnn.MaskRCNN"
COCO_BACKBONES = ("resnet50", "resnet101")
# What a checkpoint brings along, and what of that does not depend on the weights and may be set anew.
BROUGHT = ("segmenter", "backbone", "meta.rates", "meta.train_encoder")
FREE = (
    "meta.order",
    "meta.rates.clip",
    "segmenter.nms_threshold",
    "segmenter.prior_proposals",
    "segmenter.proposals",
    "segmenter.rpn_proposals_test",
    "segmenter.score_threshold",
    "segmenter.select",
)


@dataclass(frozen=True)
class Videos:
    """The videos of a data set: lists of sequences, but `train` may be a pool of tasks.

    tuning: those on which the report chooses hand-set rates, out of the training videos.
    """

    train: Any
    tuning: list[Any]
    val: list[Any]
    test: list[Any]


def prepare(cfg: DictConfig, training: bool = True) -> Videos:
    """Check the whole configuration and list the data set's videos; raises UserError. Takes no torch.

    The videos are checked as far as lists, existence and headers go. Without `training` only the test videos
    are listed.
    """
    check(cfg)
    if not training and cfg.trainer.devices > 1:
        raise UserError(f"evaluate.py works in one process: trainer.devices={cfg.trainer.devices} must be 1")
    if not training:
        return Videos(train=[], tuning=[], val=[], test=build(cfg.dataset.test))
    if cfg.results and not cfg.overwrite and (Path(cfg.results) / "manifest.json").exists():
        raise UserError(f"results={cfg.results} holds results: choose another folder, or set overwrite=true")
    train, val, test = (build(cfg.dataset[part]) for part in ("train", "val", "test"))
    videos = Videos(*split_tuning(train, cfg.report.tuning_videos, cfg.report.hold_out), val, test)
    if cfg.iterations and not any(len(video.annotated_frames) > 1 for video in videos.val):
        raise UserError(
            "no video of dataset.val has a frame to score: give masks for more frames than the first, or set "
            "dataset.val to videos that have them"
        )
    return videos


def split_tuning(train: Any, count: int, hold_out: bool) -> tuple[Any, list[Any]]:
    """What to train on, and the first `count` different videos of it, on which hand-set rates are chosen.

    train: a list of videos, or a pool of (video, object) pairs. With `hold_out` a list loses the chosen
    videos; other pools are of procedural videos, which training sees once. Raises UserError if nothing is
    left.
    """
    found: dict[str, Any] = {}
    for i in range(len(train)):
        if len(found) == count:
            break
        video = _video(train[i])
        found.setdefault(video.name, video)
    tuning = list(found.values())
    if not hold_out or not isinstance(train, list):
        return train, tuning
    rest = [entry for entry in train if _video(entry).name not in found]
    if not rest:
        raise UserError(
            f"report.tuning_videos={count} leaves no video to train on: ask for fewer, "
            "or set report.hold_out=false"
        )
    return rest, tuning


def _video(entry: Any) -> Any:
    return entry[0] if isinstance(entry, tuple) else entry


def check(cfg: DictConfig) -> None:
    """Raise UserError for the first value out of range, missing value, or impossible combination."""
    for problems in (value_problems, _checkpoint, _processes, _learning, _report, _augmentation, _networks):
        for problem in problems(cfg):
            raise UserError(problem)


def value_problems(node: DictConfig, path: str = "") -> Iterator[str]:
    """Problems with single keys: no value, unknown (forced in by '+'), out of range, no choice."""
    kind: Any = OmegaConf.get_type(node)
    rules = {f.name: f.metadata for f in fields(kind)} if is_dataclass(kind) else None
    # First the keys of this level: deeper ones may refer to them.
    for name in map(str, node):
        if OmegaConf.is_missing(node, name):
            yield f"{path}{name} has no value: give it on the command line, {path}{name}=VALUE"
        if rules is not None and name not in rules:
            yield f"there is no key {path}{name}: {suggest(name, rules, path)}"
    for name in map(str, node):
        value = node[name]
        if isinstance(value, DictConfig):
            yield from value_problems(value, f"{path}{name}.")
        elif rules is not None and value is not None:
            yield from _range(f"{path}{name}", value, rules[name])


def _range(key: str, value: Any, rule: Any) -> Iterator[str]:
    if "options" in rule and value not in rule["options"]:
        yield f"{key}={value} is none of {', '.join(rule['options'])}"
    low, high, above = (rule.get(name) for name in ("low", "high", "above"))
    if low is not None and not value >= low:
        yield f"{key}={value} is too small: it must be at least {low}"
    if above is not None and not value > above:
        yield f"{key}={value} is too small: it must be greater than {above}"
    if high is not None and not value <= high:
        yield f"{key}={value} is too large: it must be at most {high}"


def _checkpoint(cfg: DictConfig) -> Iterator[str]:
    if cfg.resume and cfg.checkpoint is None:
        yield "resume=true needs checkpoint=FILE, the last checkpoint of the interrupted run"
    if cfg.checkpoint is not None and not Path(cfg.checkpoint).exists():
        folder = Path(cfg.checkpoint).parent
        there = [str(path) for path in folder.glob("*.ckpt")] if folder.is_dir() else []
        yield f"checkpoint={cfg.checkpoint}: there is no such file" + (
            f"; there is {', '.join(sorted(there))}" if there else ""
        )


def check_agreement(cfg: DictConfig, loaded: DictConfig) -> None:
    """Raise UserError where the command line asks for another network than that of the checkpoint.

    loaded: the configuration with the checkpoint's own network and rates in it.
    """
    for key in overridden():
        asked, brought = (OmegaConf.select(config, key) for config in (cfg, loaded))
        if key.startswith(BROUGHT) and asked != brought:
            there = f", which has {brought}" if not isinstance(brought, DictConfig) else ""
            raise UserError(
                f"{key} cannot be changed beside checkpoint={cfg.checkpoint}{there}: leave it out, or train "
                "a new network without checkpoint="
            )


def _processes(cfg: DictConfig) -> Iterator[str]:
    devices = cfg.trainer.devices
    if cfg.meta.batch % devices:
        yield (
            f"meta.batch={cfg.meta.batch} cannot be shared evenly among trainer.devices={devices} processes: "
            f"set meta.batch to a multiple of {devices}"
        )
    if cfg.parent.steps and cfg.parent.batch % devices:
        yield (
            f"parent.batch={cfg.parent.batch} cannot be shared evenly among trainer.devices={devices} "
            f"processes: set parent.batch to a multiple of {devices}"
        )
    if devices > 1 and run_mode() == RunMode.MULTIRUN:
        yield (
            f"-m cannot be combined with trainer.devices={devices}: the other processes re-run the command "
            "line and would start the sweep again; start one run a setting, or set trainer.devices=1"
        )


def _learning(cfg: DictConfig) -> Iterator[str]:
    meta = cfg.meta
    if meta.order == "full" and cfg.segmenter.get("_target_") == MASK_RCNN:
        yield (
            "meta.order=full is impossible for Mask R-CNN, for RoIAlign has no second derivative: "
            "use meta.order=heads or segmenter=semantic"
        )
    if meta.step_weights is not None and not meta.multi_step:
        yield "meta.step_weights only has a meaning with meta.multi_step=true"
    if meta.step_weights is not None and len(meta.step_weights) != meta.inner_steps:
        given = len(meta.step_weights)
        yield f"meta.step_weights has {given} numbers, but meta.inner_steps={meta.inner_steps} needs as many"
    weights = query_weights(meta)
    if min(weights) < 0 or not sum(weights):
        yield f"meta.step_weights={list(weights)} must not be negative, and one of them must be above 0"
    elif meta.truncate_every and not sum(weights[: meta.truncate_every]):
        yield (
            f"meta.truncate_every={meta.truncate_every} cuts the initial weights off from every query loss: "
            f"take one in the first {meta.truncate_every} steps, with meta.multi_step=true"
        )
    if meta.rates.max is not None and meta.rates.max < meta.rates.init:
        yield f"meta.rates.init={meta.rates.init} is above meta.rates.max={meta.rates.max}"


def query_weights(meta: DictConfig) -> list[float]:
    """The weight of the query loss after each inner step; they add up to 1 unless given."""
    steps = meta.inner_steps
    if meta.multi_step:
        return list(meta.step_weights or [1 / steps] * steps)
    return [0.0] * (steps - 1) + [1.0]


def _report(cfg: DictConfig) -> Iterator[str]:
    rates = list(cfg.report.rates)
    if len(rates) < 2 or rates != sorted(set(rates)) or rates[0] <= 0:
        yield f"report.rates={rates} must be two rates or more, ascending, above 0"


def _augmentation(cfg: DictConfig) -> Iterator[str]:
    augment = cfg.dataset.augment
    if augment is not None and augment.scale_min > augment.scale_max:
        yield (
            f"dataset.augment.scale_min={augment.scale_min} is above "
            f"dataset.augment.scale_max={augment.scale_max}"
        )


def _networks(cfg: DictConfig) -> Iterator[str]:
    name, is_detector = cfg.backbone.get("name"), cfg.segmenter.get("_target_") == MASK_RCNN
    if is_detector and cfg.segmenter.weights == "coco" and name not in COCO_BACKBONES:
        yield (
            f"segmenter.weights=coco: there are none for {name or 'this backbone'}, only for "
            f"{' and '.join(COCO_BACKBONES)}; set segmenter.weights=none"
        )
    if cfg.backbone.get("weights") == "coco":
        yield "backbone.weights=coco: these are the weights of a whole Mask R-CNN; set segmenter.weights=coco"
    for node, known in (("segmenter", ("coco", "none")), ("backbone", ("coco", "imagenet", "none"))):
        weights = cfg[node].get("weights", "none")
        if weights not in known and not Path(weights).is_file():
            yield f"{node}.weights={weights} is none of {', '.join(known)}, and there is no such file"
