"""Where settings are seen to arrive: each function returns the things to look at of a run."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import RichProgressBar
from torch import Tensor, nn
from whole_runs import Run, first_tasks

from eosvos.data.sequence import VideoSequence
from eosvos.data.tasks import Task
from eosvos.inference.predictor import Predictor
from eosvos.meta.learner import MetaLearner
from eosvos.models.segmenter import Batch, Features, Segmenter
from eosvos.seeding import isolated_rng
from eosvos.training.callbacks import SaveLast


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


def drawn_from(source: Any) -> Any:
    """What is drawn from, a few entries of it."""
    entries = [source[i] for i in range(min(len(source), 6))]
    return described(entry[0] if isinstance(entry, tuple) else entry for entry in entries)


PARTS: dict[str, Callable[[Run], list[Any]]] = {
    "train": lambda run: [drawn_from(run.videos.train)],
    "val": lambda run: [described(run.videos.val)],
    "test": lambda run: [described(run.videos.test)],
}


def trained_on(run: Run) -> list[Any]:
    return [drawn_from(stage.data.drawn_from) for stage in run.stages]


def every_part(run: Run) -> list[Any]:
    """Where each part is used, in both commands."""
    used = run.meta.data.val_dataloader(), run.given.final_evaluation.test, run.evaluation["videos"]
    return [*trained_on(run), *map(described, used)]


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
        self, features: Features, index: int, prior: Tensor | None = None, redetect: bool = False
    ) -> Tensor:
        self.events.append(("draw", float(torch.rand(()))))
        probability = torch.zeros(16, 20)
        probability[4:10, 4:10] = 1
        return probability

    def head_parameters(self) -> list[nn.Parameter]:
        return []


class NotingAdapter:
    """Notes each adaptation: its batches, and which of the earlier ones it starts from."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.segmenter: Segmenter = Noting(self.events)
        self.made: list[Segmenter] = []

    def adapt(self, batches: Iterable[Batch], *, start: Segmenter | None = None) -> Segmenter:
        images = [tensors([batch]) for batch, _ in batches]
        self.events.append(("adapt", images, None if start is None else self.made.index(start)))
        self.made.append(Noting(self.events))
        return self.made[-1]

    def with_fixed_lr(self, lr: float) -> "NotingAdapter":
        self.events.append(("fixed learning rate", lr))
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


def by_final_evaluation(run: Run) -> list[Any]:
    given = run.given.final_evaluation
    return followed(lambda adapter: list(Predictor(adapter, given.finetune, given.seed).segment(Eight())))


def fine_tuning(run: Run) -> list[Any]:
    return [by_validation(run), by_evaluation(run), by_final_evaluation(run)]


def learner(run: Run) -> MetaLearner:
    return run.meta.module.learner


def bounded(run: Run) -> list[Any]:
    """The inner learning rates of an outer step that went too far."""
    copied = copy.deepcopy(learner(run))
    for value in copied.inner_lrs():
        value.data.fill_(9.0)
    copied.clamp_inner_lrs()
    return [tensors(copied.inner_lrs())]


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


def visualisations(run: Run) -> list[Any]:
    """Of how many videos the final evaluation draws frames."""
    drawn: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eosvos.training.final_eval.fill_folder", lambda *given: drawn.append(given[3]) or [])
        run.given.final_evaluation.with_inner_lr("meta-learned", run.given.learner)
    return drawn


NEAR, FAR = [20.0, 16.0, 60.0, 48.0], [64.0, 4.0, 90.0, 30.0]


def detection(run: Run) -> tuple[Any, list[float]]:
    """The boxes that a detector classifies after a frame with the object at NEAR, and the one that it takes.

    The scores are made up: that of FAR is a little higher.
    """
    classified: list[Any] = []
    network = run.network

    def detect(maps: Any, proposals: Tensor, size: Any) -> tuple[Tensor, Tensor]:
        classified.append(tensors([proposals]))
        return torch.tensor([FAR, NEAR]), torch.tensor([0.9, 0.8])

    with pytest.MonkeyPatch.context() as patch, isolated_rng("detection"), torch.no_grad():
        patch.setattr(network.roi_heads, "detect", detect)
        found = network.detect(network.features(torch.rand(1, 3, 64, 96)), 0, torch.tensor(NEAR))
    return classified[0], found.box.round().tolist()


def loggers(run: Run) -> list[Any]:
    return [type(logger) for logger in run.meta.trainer.loggers]


def of_logger(*names: str) -> Callable[[Run], list[Any]]:
    return lambda run: [getattr(run.logger, name) for name in names]


def progress(run: Run) -> list[Any]:
    return [any(isinstance(c, RichProgressBar) for c in s.trainer.callbacks) for s in run.stages]


def callbacks(run: Run) -> list[Any]:
    return [{type(callback) for callback in stage.trainer.callbacks} for stage in run.stages]


def progress_bar_stays(run: Run) -> list[Any]:
    bars = [c for stage in run.stages for c in stage.trainer.callbacks if isinstance(c, RichProgressBar)]
    return [bar._leave for bar in bars]


def seconds_between_checkpoints(run: Run) -> list[Any]:
    found = [c for stage in run.stages for c in stage.trainer.callbacks if isinstance(c, SaveLast)]
    return [callback.seconds for callback in found]
