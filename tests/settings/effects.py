"""Where settings are seen to arrive: each function returns the things to look at of a run."""

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from doubles import Clip, NotingAdapter
from pytorch_lightning.callbacks import RichProgressBar
from torch import Tensor, nn
from whole_runs import Run, first_tasks

from eosvos.data.sequence import VideoSequence
from eosvos.data.tasks import Task
from eosvos.inference.predictor import Predictor
from eosvos.meta.learner import MetaLearner
from eosvos.seeding import isolated_rng
from eosvos.setup import set_up
from eosvos.training.callbacks import SaveLast, TimeLimit


def tensors(values: Iterable[Tensor]) -> list[tuple[tuple[int, ...], bytes]]:
    return [(tuple(value.shape), value.detach().contiguous().numpy().tobytes()) for value in values]


def task_frames(tasks: Sequence[Task]) -> Any:
    return [tensors([t.support_images, t.query_images]) for t in tasks]


def task_masks(run: Run) -> list[Any]:
    return [tensors(mask for t in run.tasks("meta") for mask in (t.support_masks, t.query_masks))]


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
    "train": lambda run: [drawn_from(run.videos.train[0].videos)],
    "val": lambda run: [described(run.videos.val[""])],
    "test": lambda run: [described(run.videos.test[""])],
}


def trained_on(run: Run) -> list[Any]:
    return [drawn_from(stage.data.drawn_from[0].videos) for stage in run.stages]


def every_part(run: Run) -> list[Any]:
    """Where each part is used, in both commands."""
    [validated] = run.meta.data.val_dataloader()
    used = validated, run.given.final_evaluation.test[""], run.evaluation["videos"]
    return [*trained_on(run), *map(described, used)]


CLIP = Clip(length=8, masks=8)


def followed(segment: Callable[[NotingAdapter], Any]) -> list[Any]:
    """What fine-tuning and following an object asks of an adapter and its networks, and draws for them."""
    adapter = NotingAdapter()
    segment(adapter)
    return [(kind, tensors([v]) if isinstance(v, Tensor) else v) for kind, v in adapter.events]


def by_validation(run: Run) -> list[Any]:
    return followed(lambda adapter: run.meta.module.evaluate(adapter, CLIP))


def by_evaluation(run: Run) -> list[Any]:
    made = run.evaluation["predictor"]
    return followed(lambda adapter: list(Predictor(adapter, made.finetune, made.seed).segment(CLIP)))


def by_final_evaluation(run: Run) -> list[Any]:
    given = run.given.final_evaluation
    return followed(lambda adapter: list(Predictor(adapter, given.finetune, given.seed).segment(CLIP)))


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


def size_of_logits(run: Run) -> list[Any]:
    """What a semantic segmenter makes of a frame's size."""
    return [run.network(torch.rand(1, 3, 32, 48)).shape]


def visualisations(run: Run) -> list[Any]:
    """Of how many videos the final evaluation draws frames."""
    drawn: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eosvos.training.final_eval.fill_folder", lambda *given: drawn.append(given[3]) or [])
        evaluation = run.given.final_evaluation
        evaluation.with_inner_lr("meta-learned", run.given.learner, evaluation.folders)
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


def told_for_a_gpu(*names: str) -> Callable[[Run], list[Any]]:
    """What torch is told where there is a GPU; on a CPU it is told nothing."""

    def seen(run: Run) -> list[Any]:
        told = SimpleNamespace()
        trainer = run.config.trainer.model_copy(update={"accelerator": "gpu", "devices": 1})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "set_float32_matmul_precision", partial(setattr, told, "matmul_precision"))
            patch.setattr(torch.backends, "cudnn", told)
            set_up(run.config)
            assert not vars(told)
            patch.setattr(torch.cuda, "device_count", lambda: 1)
            set_up(run.config.model_copy(update={"trainer": trainer}))
        return [getattr(told, name) for name in names]

    return seen


def compiled(run: Run) -> list[Any]:
    """Whether the backbone is compiled, in training and in evaluate.py."""
    learners = run.given.learner, run.evaluation["predictor"].adapter
    return [one.segmenter.compiled is not None for one in learners]


def channels_last(run: Run) -> list[Any]:
    """How the weights of the network lie in memory, in training and in evaluate.py."""
    learners = run.given.learner, run.evaluation["predictor"].adapter
    return [[weight.stride() for weight in one.weights()] for one in learners]


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


def time_limits(run: Run) -> list[Any]:
    return [
        [one.seconds for one in stage.trainer.callbacks if isinstance(one, TimeLimit)] for stage in run.stages
    ]
