"""What can be said of a configuration before torch is imported: ranges, choices, combinations, files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from eosvos.data.pools import check_queries
from eosvos.errors import UserError
from eosvos.run.command_line import overridden, run_mode
from eosvos.run.folders import check_folders, check_unread, results_at
from eosvos.run.instantiate import build
from eosvos.run.rules import check_values, expand_home

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

    @property
    def folders(self) -> set[Path]:
        """The folders that all of them are read from; pools are of procedural videos, without any."""
        train = self.train if isinstance(self.train, list) else []
        videos = [*map(_video, train), *self.tuning, *self.val, *self.test]
        return {folder for video in videos for folder in video.folders}


def prepare(cfg: DictConfig, training: bool = True) -> Videos:
    """Check the whole configuration and list the data set's videos; raises UserError. Takes no torch.

    The videos are checked as far as lists, existence and headers go. Without `training` only the test videos
    are listed. The run's folders are looked at, and nothing is made.
    """
    check(cfg)
    check_folders(cfg, training)
    if not training and cfg.trainer.devices > 1:
        raise UserError(f"evaluate.py works in one process: trainer.devices={cfg.trainer.devices} must be 1")
    if not training:
        videos = Videos(train=[], tuning=[], val=[], test=build(cfg.dataset.test))
        check_unread(cfg, videos.test, videos.folders)
        return videos
    train, val, test = (build(cfg.dataset[part]) for part in ("train", "val", "test"))
    videos = Videos(*split_tuning(train, cfg.report.tuning_videos, cfg.report.hold_out), val, test)
    check_unread(cfg, videos.test, videos.folders)
    if cfg.results and not cfg.overwrite and (results_at(cfg).root / "manifest.json").exists():
        raise UserError(f"results={cfg.results} holds results: choose another folder, or set overwrite=true")
    if cfg.iterations and not any(len(video.annotated_frames) > 1 for video in videos.val):
        raise UserError(
            "no video of dataset.val has a frame to score: give masks for more frames than the first, or set "
            "dataset.val to videos that have them"
        )
    if cfg.iterations:
        # Procedural videos are all alike.
        entries = videos.train if isinstance(videos.train, list) else [videos.train[0]]
        check_queries([*map(_video, entries)], cfg.dataset.query_frames, cfg.dataset.frame_window)
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
    """Raise UserError for the first value out of range, missing value, or impossible combination.

    Puts the home folder in place of ~ in the configuration's paths.
    """
    check_values(cfg)
    expand_home(cfg)
    for problems in (_checkpoint, _processes, _learning, _report, _augmentation, _networks):
        for problem in problems(cfg):
            raise UserError(problem)


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
    if not sum(weights):
        yield f"meta.step_weights={list(weights)}: one of them must be above 0"
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
    if rates != sorted(set(rates)):
        yield f"report.rates={rates} must be ascending"


def _augmentation(cfg: DictConfig) -> Iterator[str]:
    augment = cfg.dataset.augment
    if augment is not None and augment.scale_min > augment.scale_max:
        yield (
            f"dataset.augment.scale_min={augment.scale_min} is above "
            f"dataset.augment.scale_max={augment.scale_max}"
        )


def _networks(cfg: DictConfig) -> Iterator[str]:
    short, long = (cfg.segmenter.get(name) for name in ("min_size", "max_size"))
    if short is not None and long is not None and short > long:
        yield f"segmenter.min_size={short} is above segmenter.max_size={long}"
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
