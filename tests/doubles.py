"""A small learner; stand-ins that note how they are asked, and what the global generator gives them."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from eosvos.config import models
from eosvos.config.meta import InnerLR
from eosvos.data.sequence import VideoSequence
from eosvos.meta.learner import MetaLearner
from eosvos.models.backbones import tiny_backbone
from eosvos.models.light_deeplab import LightDeepLab
from eosvos.models.segmenter import Batch, Features, Segmenter
from eosvos.seeding import isolated_rng

SIZE = (24, 32)


def light_learner(**options: Any) -> MetaLearner:
    """A real network, the same at every call, that adapts in milliseconds. options: of MetaLearner."""
    torch.manual_seed(0)
    backbone = tiny_backbone(models.TinyBackbone(width=8, fpn_channels=8))
    return MetaLearner(LightDeepLab(backbone, models.LightDeepLab(channels=8)), InnerLR(init=0.1), **options)


class Clip(VideoSequence):
    """Noise; a box for each of some objects in each of some frames, always at the same place."""

    size = SIZE
    annotated_frames: tuple[int, ...] = ()

    def __init__(
        self, name: str = "clip", ids: Iterable[int] = (1,), length: int = 1, masks: int = 1
    ) -> None:
        self.name = name
        self.frame_names = tuple(f"{t:05d}" for t in range(length))
        self.annotated_frames = tuple(range(masks))
        self.ids = tuple(ids)

    def image(self, t: int) -> Tensor:
        generator = torch.Generator().manual_seed(t)
        return torch.randint(0, 256, (3, *SIZE), generator=generator, dtype=torch.uint8)

    def mask(self, t: int) -> Tensor | None:
        mask = torch.zeros(SIZE, dtype=torch.uint8)
        for place, object_id in enumerate(self.ids):
            mask[4:12, 4 + 12 * place : 12 + 12 * place] = object_id
        return mask if t in self.annotated_frames else None


class NotingSegmenter(Segmenter):
    """Finds its object at the same place in every frame, and draws as a detector does its samples and jitter.

    events: a name and a value of each call, in their order.
    """

    def __init__(self, events: list[tuple[str, Any]] | None = None) -> None:
        super().__init__()
        with isolated_rng("weights"):
            self.backbone = nn.Conv2d(3, 1, 1)
        self.events = [] if events is None else events

    def losses(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        self.events.append(("losses", torch.rand(4)))
        return {"mean": ((self.backbone(images)[:, 0] - masks) ** 2).mean()}

    def features(self, images: Tensor) -> Features:
        self.events.append(("features", len(images)))
        return Features({"images": images}, SIZE)

    def segment(
        self, features: Features, index: int, prior: Tensor | None = None, redetect: bool = False
    ) -> Tensor:
        self.events.append(("segment", torch.rand(4)))
        probability = torch.zeros(SIZE)
        probability[4:12, 4:12] = 1
        return probability

    def head_parameters(self) -> list[nn.Parameter]:
        return []


class NotingAdapter:
    """Notes each adaptation, too: its batches, and which of the earlier ones it starts from."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.segmenter = NotingSegmenter(self.events)
        self.made: list[Segmenter] = []

    def adapt(self, batches: Iterable[Batch], *, start: Segmenter | None = None) -> Segmenter:
        kind = "adapt" if start is None else "online"
        self.events.append((kind, torch.rand(4)))
        self.events += [(f"{kind} images", images) for images, _ in batches]
        if start is not None:
            self.events.append(("start", self.made.index(start)))
        self.made.append(NotingSegmenter(self.events))
        return self.made[-1]

    def with_fixed_lr(self, lr: float) -> "NotingAdapter":
        self.events.append(("fixed learning rate", lr))
        return self


class ScriptedSegmenter(Segmenter):
    """Sees the object where the image's red channel is above one half; remembers how it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(1, 1)
        self.calls: list[tuple[list[float] | None, bool]] = []

    def losses(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        return {"none": self.backbone.weight.sum()}

    def features(self, images: Tensor) -> Features:
        return Features({"red": images[:, :1]}, tuple(images.shape[-2:]))

    def segment(
        self, features: Features, index: int, prior: Tensor | None = None, redetect: bool = False
    ) -> Tensor:
        self.calls.append((None if prior is None else prior.tolist(), redetect))
        return features.maps["red"][index, 0]

    def head_parameters(self) -> list[nn.Parameter]:
        return []


class RecordingAdapter:
    """Hands out scripted segmenters that share one list of calls, and keeps the batches it was given."""

    def __init__(self) -> None:
        self.segmenter = ScriptedSegmenter()
        self.adaptations: list[tuple[list[Batch], Segmenter | None]] = []
        self.made: list[Segmenter] = []

    def adapt(self, batches: Iterable[Batch], *, start: Segmenter | None = None) -> Segmenter:
        self.adaptations.append((list(batches), start))
        adapted = ScriptedSegmenter()
        adapted.calls = self.segmenter.calls
        self.made.append(adapted)
        return adapted
