"""Every setting does something: one row each of how to change it, and where that is seen to arrive.

A row's change is seen at what the setting configures, after everything between: the whole of train.py (or
evaluate.py), with Lightning's fit and the filling of tables replaced by notes of what they are given.
"""

import copy
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING as NOTHING
from dataclasses import Field, dataclass, fields, is_dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import timm
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar
from torch import Tensor, nn
from torchvision.models import get_model

from eosvos.data.datamodule import VOSDataModule
from eosvos.data.sequence import VideoSequence
from eosvos.data.tasks import Task
from eosvos.errors import UserError
from eosvos.evaluation.report import ReportRow
from eosvos.inference.predictor import Predictor
from eosvos.meta.learner import MetaLearner
from eosvos.meta.module import MetaModule
from eosvos.models.segmenter import Batch, Features, Prediction, Segmenter
from eosvos.run.checks import Videos, prepare
from eosvos.run.components import COMPONENTS
from eosvos.run.evaluate import evaluate
from eosvos.run.help import CONF
from eosvos.run.instantiate import build
from eosvos.run.networks import build_learner, model_config
from eosvos.run.report import Comparison
from eosvos.run.schema import Config, register
from eosvos.run.stages import data_module
from eosvos.run.train import train

# ------------------------------------------------------------------------------------- the declared settings

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


# --------------------------------------------------------------------------------------- what a run is given

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


class Asked(pl.Trainer):
    """A Trainer that keeps what it is asked for."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.given = given


@dataclass
class Stage:
    """What Lightning is asked to fit, and how."""

    trainer: pl.Trainer
    module: pl.LightningModule
    data: Any
    options: dict[str, Any]


@dataclass
class Given:
    """What train.py gives to Lightning by stage, to the report, and to the rest; or its error."""

    stages: dict[str, Stage]
    threads: int | None = None
    device: str | None = None
    comparison: Comparison | None = None
    learner: MetaLearner | None = None
    error: str | None = None


class Run:
    """What becomes of a configuration: what is built of it, and, when asked for, both commands."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg

    @cached_property
    def videos(self) -> Videos:
        return prepare(self.cfg)

    @cached_property
    def network(self) -> Segmenter:
        return build_learner(model_config(self.cfg), self.cfg.seed).segmenter

    @cached_property
    def logger(self) -> Any:
        [node] = self.cfg.logger.values()
        return build(node)

    def tasks(self, stage: str) -> list[Task]:
        """The first tasks of a stage, as its data module draws them."""
        return first_tasks(data_module(self.cfg, self.videos, stage))

    @cached_property
    def given(self) -> Given:
        found = Given({})
        with listening(found) as patch:
            patch.setattr(pl.Trainer, "fit", fitting(found))
            patch.setattr("eosvos.run.stages.pl.Trainer", Asked)
            patch.setattr(pl.Trainer, "save_checkpoint", lambda trainer, path: None)
            patch.setattr("eosvos.run.train.digest_of", lambda path: "digest")
            patch.setattr("eosvos.run.train.close", lambda loggers: None)

            def compare(before: Any, after: Any, comparison: Comparison) -> list[ReportRow]:
                found.comparison = comparison
                return [ReportRow("after", ())]

            patch.setattr("eosvos.run.train.compare", compare)
            try:
                found.learner = train(self.fresh(), self.videos).learner
            except UserError as error:
                found.error = str(error)
        return found

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """What evaluate.py segments with what, into which folder, on which device; or its error."""
        found: dict[str, Any] = {}
        heard = Given({})

        def fill(folder: Any, predictor: Predictor, videos: Any, **_: Any) -> list[Any]:
            found.update(folder=folder, predictor=predictor, videos=videos, device=heard.device)
            return []

        with listening(heard) as patch:
            patch.setattr("eosvos.run.evaluate.fill_folder", fill)
            try:
                evaluate(self.fresh())
            except UserError as error:
                found["error"] = str(error)
        return found

    def fresh(self) -> DictConfig:
        """The configuration, whose folder is not there yet."""
        shutil.rmtree(self.cfg.output, ignore_errors=True)
        return self.cfg

    @property
    def meta(self) -> Stage:
        return self.given.stages["meta"]

    @property
    def parent(self) -> Stage:
        return self.given.stages["parent"]

    @property
    def stages(self) -> tuple[Stage, Stage]:
        return self.meta, self.parent

    def optimizer(self, stage: str) -> tuple[dict[str, Any], Callable[[int], float]]:
        """Groups of the optimiser by name, and the factor of their rates at an iteration."""
        made = self.given.stages[stage].module.configure_optimizers()
        if stage == "parent":
            return {"all": made["optimizer"]}, made["lr_scheduler"]["scheduler"].lr_lambdas[0]
        [optimizer], [schedule] = made
        groups = {group["name"]: group for group in optimizer.param_groups}
        return {**groups, "all": optimizer}, schedule.lr_lambdas[0]


@contextmanager
def listening(heard: Given) -> Iterator[pytest.MonkeyPatch]:
    """Note the number of threads and the device, and leave both as they are; spare git and the disk."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
            patch.setenv(name, "1")
        patch.setattr(torch, "set_num_threads", lambda number: setattr(heard, "threads", number))
        patch.setattr("eosvos.run.record.git_state", lambda: None)
        patch.setattr("os.fsync", lambda file: None)
        for module in ("train", "evaluate"):
            patch.setattr(
                f"eosvos.run.{module}.device_for", lambda name: setattr(heard, "device", name) or "cpu"
            )
        yield patch


def fitting(heard: Given) -> Callable[..., None]:
    def fit(trainer: pl.Trainer, module: pl.LightningModule, datamodule: Any, **options: Any) -> None:
        stage = "meta" if isinstance(module, MetaModule) else "parent"
        heard.stages[stage] = Stage(trainer, module, datamodule, options)

    return fit


def first_tasks(data: VOSDataModule) -> list[Task]:
    """The tasks of the first two iterations."""
    return [task for batch in islice(data.train_dataloader(), 2) for task in batch]


# ------------------------------------------------------------------------------------------ what is looked at


def tensors(values: Iterable[Tensor]) -> list[tuple[tuple[int, ...], bytes]]:
    return [(tuple(value.shape), value.detach().contiguous().numpy().tobytes()) for value in values]


def task_frames(tasks: Sequence[Task]) -> Any:
    return [tensors([t.support_images, t.query_images]) for t in tasks]


def both_stages(run: Run) -> list[Any]:
    """What training draws; parent training looks at support frames only."""
    return [task_frames(run.tasks("meta")), [tensors([t.support_images]) for t in run.tasks("parent")]]


def gradient(run: Run) -> list[Any]:
    """What a task is worth to the learner."""
    module = run.meta.module
    return [tensors(module.sum_over_tasks(first_tasks(run.meta.data)[:1])[0])]


def weights(module: nn.Module) -> Any:
    return tensors(module.state_dict().values())


def network(run: Run) -> list[Any]:
    """Names, shapes and trainability of all that the learner's network holds."""
    segmenter = run.network
    parameters = [(name, tuple(p.shape), p.requires_grad) for name, p in segmenter.named_parameters()]
    return [parameters + [(name, tuple(b.shape)) for name, b in segmenter.named_buffers()]]


def described(videos: Iterable[VideoSequence]) -> Any:
    return [
        (v.name, v.size, v.num_frames, v.object_ids, v.annotated_frames, *tensors([v.image(0), v.mask(0)]))
        for v in videos
    ]


def pooled(pool: Any) -> Any:
    """What is drawn from, a few entries of it."""
    entries = [pool[i] for i in range(min(len(pool), 6))]
    return described(entry[0] if isinstance(entry, tuple) else entry for entry in entries)


PARTS: dict[str, Callable[[Run], list[Any]]] = {
    "train": lambda run: [pooled(run.videos.train)],
    "val": lambda run: [described(run.videos.val)],
    "test": lambda run: [described(run.videos.test)],
}


def trained_on(run: Run) -> list[Any]:
    return [pooled(run.meta.data.sampler._pool), pooled(run.parent.data.sampler._pool)]


def every_part(run: Run) -> list[Any]:
    """Where each part is used, in both commands."""
    validated, reported = run.meta.data.val_dataloader(), run.given.comparison.test
    return [*trained_on(run), described(validated), described(reported), described(run.evaluation["videos"])]


class Eight(VideoSequence):
    """Eight frames of noise with one object."""

    name, size = "eight", (16, 20)
    frame_names = tuple(f"{t:05d}" for t in range(8))
    annotated_frames = (0, 7)

    def image(self, t: int) -> Tensor:
        generator = torch.Generator().manual_seed(t)
        return torch.randint(0, 256, (3, *self.size), generator=generator, dtype=torch.uint8)

    def mask(self, t: int) -> Tensor | None:
        mask = torch.zeros(self.size, dtype=torch.uint8)
        mask[4:10, 4:10] = 1
        return mask if t in self.annotated_frames else None


class Noting(Segmenter):
    """Finds its object at the same place in every frame, and notes how it is asked."""

    def __init__(self, events: list[Any]) -> None:
        super().__init__()
        self.backbone = nn.Linear(1, 1)
        self.events = events

    def losses(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError

    def features(self, images: Tensor) -> Features:
        self.events.append(("features", len(images)))
        return Features({"images": images}, (16, 20))

    def segment(
        self, features: Features, index: int, prior: Tensor | None = None, search: bool = False
    ) -> Prediction:
        self.events.append(("draw", float(torch.rand(()))))
        probability = torch.zeros(16, 20)
        probability[4:10, 4:10] = 1
        return Prediction(probability, torch.tensor([4.0, 4.0, 10.0, 10.0]), 1.0)

    def head_parameters(self) -> list[nn.Parameter]:
        return []


class NotingAdapter:
    """Notes each adaptation: its batches, and which of the earlier ones it starts from."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.segmenter: Segmenter = Noting(self.events)
        self.made: list[Segmenter] = []

    def adapt(
        self, batches: Iterable[Batch], differentiable: bool = False, start: Segmenter | None = None
    ) -> Segmenter:
        images = [tensors([batch]) for batch, _ in batches]
        self.events.append(("adapt", images, None if start is None else self.made.index(start)))
        self.made.append(Noting(self.events))
        return self.made[-1]

    def with_rate(self, rate: float) -> "NotingAdapter":
        self.events.append(("rate", rate))
        return self


def followed(segment: Callable[[NotingAdapter], Any]) -> list[Any]:
    adapter = NotingAdapter()
    segment(adapter)
    return adapter.events


def by_validation(run: Run) -> list[Any]:
    return followed(lambda adapter: run.meta.module.evaluate(adapter, Eight()))


def by_evaluation(run: Run) -> list[Any]:
    made = run.evaluation["predictor"]
    return followed(lambda adapter: list(Predictor(adapter, made.finetune, made.seed).segment(Eight())))


def by_report(run: Run) -> list[Any]:
    given = run.given.comparison
    return followed(lambda adapter: list(Predictor(adapter, given.finetune, given.seed).segment(Eight())))


def fine_tuning(run: Run) -> list[Any]:
    return [by_validation(run), by_evaluation(run), by_report(run)]


def learner(run: Run) -> MetaLearner:
    return run.meta.module.learner


def bounded(run: Run) -> list[Any]:
    """The rates of an outer step that went too far."""
    copied = copy.deepcopy(learner(run))
    for value in copied.rates():
        value.data.fill_(9.0)
    copied.clamp_rates()
    return [tensors(copied.rates())]


def groups(key: str, *names: str) -> Callable[[Run], list[Any]]:
    return lambda run: [run.optimizer("meta")[0][name][key] for name in names]


def attributes(*paths: str) -> Callable[[Run], list[Any]]:
    """Attributes of the learner's segmenter, each by its path."""

    def found(run: Run) -> list[Any]:
        values = []
        for path in paths:
            value: Any = run.network
            for name in path.split("."):
                value = getattr(value, name)
            values.append(value)
        return values

    return found


def network_size(run: Run) -> list[Any]:
    """What a detector makes of a frame's size."""
    batch, _ = run.network.transform.eval()([torch.rand(3, 64, 96)])
    return [batch.image_sizes]


def strips(run: Run) -> list[Any]:
    """How many strips the report draws."""
    drawn: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eosvos.run.report.fill_folder", lambda *given: drawn.append(given[3]) or [])
        run.given.comparison.learned("after", run.given.learner)
    return drawn


def loggers(run: Run) -> list[Any]:
    return [type(logger) for logger in run.meta.trainer.loggers]


def of_logger(*names: str) -> Callable[[Run], list[Any]]:
    return lambda run: [getattr(run.logger, name) for name in names]


def progress(run: Run) -> list[Any]:
    return [any(isinstance(c, RichProgressBar) for c in s.trainer.callbacks) for s in run.stages]


def saved_every(run: Run) -> list[Any]:
    [saving] = [c for c in run.parent.trainer.callbacks if isinstance(c, ModelCheckpoint)]
    return [run.meta.trainer.val_check_interval, saving._every_n_train_steps]


# --------------------------------------------------------------------------------------------------- the rows


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
    "trainer.log_every": Row("3", lambda r: [s.trainer.log_every_n_steps for s in r.stages]),
    "trainer.progress": Row("true", progress),
}


def parts(**values: str) -> dict[str, Row]:
    """A row for each of a data set's parts."""
    return {f"{part}.{key}": Row(value, see) for key, value in values.items() for part, see in PARTS.items()}


# Of every data set. Probabilities and ranges so large that each draw comes out otherwise.
DRAWING = {
    "query_frames": Row("2", lambda r: [task_frames(r.tasks("meta"))]),
    "frame_window": Row("0", lambda r: [task_frames(r.tasks("meta"))]),
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


def composed(output: Path, overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=[f"output={output}", *overrides.split()])


def changed(cfg: DictConfig, change: str) -> DictConfig:
    """A copy with other values, which is made in a tenth of the time of composing."""
    copied = copy.deepcopy(cfg)
    for override in OverridesParser.create().parse_overrides(change.split()):
        OmegaConf.update(copied, override.key_or_group, override.value())
    return copied


# -------------------------------------------------------------------------------------------------- the tests


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    image = image.convert("P") if path.suffix == ".png" else image
    image.save(path)


def video(frames: Path, masks: Path, light: int, shift: int, names: Iterable[str]) -> None:
    """Noise around a lightness, with two objects that are seen in every mask."""
    labels = np.zeros((32, 48), np.uint8)
    labels[6:16, 4 + shift : 16 + shift], labels[20:30, 24:40] = 1, 2
    for t, name in enumerate(names):
        noise = np.random.default_rng((light, t)).integers(0, 60, (32, 48, 3), np.uint8)
        save(frames / f"{name}.jpg", noise + np.uint8(light))
        save(masks / f"{name}.png", labels)


def davis(root: Path, light: int) -> None:
    lists = {"train": ["cat", "dog"], "val": ["fox", "hen"], "all": ["cat", "dog", "fox", "hen"]}
    for year in ("2016", "2017"):
        for split, names in lists.items():
            path = root / f"ImageSets/{year}/{split}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{name}\n" for name in names))
    for resolution, more in (("480p", 0), ("Full-Resolution", 5)):
        for number, name in enumerate(lists["all"]):
            folders = (root / part / resolution / name for part in ("JPEGImages", "Annotations"))
            video(*folders, light + more + 20 * number, light // 20, [f"{t:05d}" for t in range(3)])


def youtube_vos(root: Path, light: int) -> None:
    frames = [f"{5 * t:05d}" for t in range(3)]
    for split, names in (("train", [f"v{i}" for i in range(8)]), ("valid", ["w0", "w1"])):
        objects = {str(i): {"category": f"kind{i}", "frames": frames} for i in (1, 2)}
        (root / split).mkdir(parents=True, exist_ok=True)
        meta = {"videos": {name: {"objects": objects} for name in names}}
        (root / split / "meta.json").write_text(json.dumps(meta))
        for number, name in enumerate(names):
            folders = (root / split / part / name for part in ("JPEGImages", "Annotations"))
            video(*folders, light + 20 * number, light // 20, frames)


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """The run of a base, made once, or of a change of it."""
    register()
    data = tmp_path_factory.mktemp("settings")
    davis(data / "davis", 0)
    davis(data / "davis-other", 40)
    youtube_vos(data / "youtube", 0)
    youtube_vos(data / "youtube-other", 40)
    (data / "others").mkdir()
    (data / "others" / "manifest.json").write_text('{"seed": 77}')
    torch.save(get_model("resnet18", weights=None).state_dict(), data / "resnet18.pth")
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), data / "mobilenet.pth")
    saved = composed(data / "saved", f"{TINY} {BASES['synthetic']} {SAVED}")
    torch.save(train(saved).learner.segmenter.state_dict(), data / "detector.pth")
    shutil.copy(data / "saved" / "checkpoints" / "last.ckpt", data / "saved.ckpt")
    made: dict[str, Run] = {}

    def run(base: str, change: str = "") -> Run:
        base, change = (text.replace("DATA", str(data)) for text in (base, change))
        if base not in made:
            made[base] = Run(composed(data / "run", base))
        if change.partition("=")[0] in CONTAINERS:
            return Run(composed(data / "run", f"{base} {change}"))
        return Run(changed(made[base].cfg, change)) if change else made[base]

    return run


def test_every_declared_setting_has_a_row_and_every_row_a_setting():
    assert set(ROWS) == all_settings()


@pytest.mark.parametrize("setting", ROWS)
def test_a_changed_setting_arrives(run_of, setting):
    row = ROWS[setting]
    base, change = overrides_of(setting, row)
    before, after = row.see(run_of(base)), row.see(run_of(base, change))
    assert len(before) == len(after) > 0
    same = [i for i, (one, other) in enumerate(zip(before, after, strict=True)) if one == other]
    assert not same, f"{change} changes nothing at {same}"
