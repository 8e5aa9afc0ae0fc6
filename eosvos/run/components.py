"""The arguments of everything that a `_target_` builds: videos, backbones, segmenters, loggers. Torch-free.

One dataclass per target, with the target's parameter names; a config file takes it up by `defaults:
[/schema/NAME@_here_]`. A config file of your own may do without: its keys are then checked by the target
alone.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from eosvos.run.rules import blank, location, one_of, within

NORMS = ("group32", "group_auto", "frozen_batch")


@dataclass
class Target:
    """Anything that is built by calling `_target_` with the other keys."""

    _target_: str = MISSING


@dataclass
class Augment:
    """Random changes to the frames of a task."""

    flip: float = within(low=0, high=1)
    rotation: float = within(low=0, high=180)
    scale_min: float = within(above=0)
    scale_max: float = within(above=0)
    brightness: float = within(low=0, high=1)
    contrast: float = within(low=0, high=1)
    saturation: float = within(low=0, high=1)
    hue: float = within(low=0, high=0.5)


@dataclass
class Dataset:
    """What all data sets have: how tasks are drawn, and three sets of videos."""

    query_frames: int = within(low=1)
    frame_window: int | None = within(low=0)
    augment: Augment | None = field(default_factory=Augment)
    train: Any = MISSING
    val: Any = MISSING
    test: Any = MISSING


@dataclass
class SyntheticSequences(Target):
    """Arguments of `eosvos.data.synthetic.synthetic_sequences`."""

    range_name: str = one_of("train", "dev", "test")
    count: int = within(low=1)
    size: list[int] = within(low=32, entries=(2, 2))
    num_frames: int = within(low=2)
    max_objects: int = within(low=1, high=3)
    seed: int = within(low=0)


@dataclass
class SyntheticPool(Target):
    """Arguments of `eosvos.data.synthetic.SyntheticPool`."""

    size: list[int] = within(low=32, entries=(2, 2))
    num_frames: int = within(low=2)
    max_objects: int = within(low=1, high=3)
    seed: int = within(low=0)


@dataclass
class Synthetic(Dataset):
    """Procedural videos."""

    size: list[int] = within(low=32, entries=(2, 2))
    num_frames: int = within(low=2)
    max_objects: int = within(low=1, high=3)
    train: SyntheticPool = field(default_factory=SyntheticPool)
    val: SyntheticSequences = field(default_factory=SyntheticSequences)
    test: SyntheticSequences = field(default_factory=SyntheticSequences)


@dataclass
class DavisSequences(Target):
    """Arguments of `eosvos.data.davis.davis_sequences`."""

    root: str = location()
    year: str = one_of("2016", "2017")
    resolution: str = MISSING
    split: str | None = MISSING
    sequences: list[str] | None = MISSING
    short_side: int | None = within(low=16)


@dataclass
class Davis(Dataset):
    """DAVIS 2016 or 2017."""

    root: str = location()
    resolution: str = MISSING
    train: DavisSequences = field(default_factory=DavisSequences)
    val: DavisSequences = field(default_factory=DavisSequences)
    test: DavisSequences = field(default_factory=DavisSequences)


@dataclass
class YoutubeVosSequences(Target):
    """Arguments of `eosvos.data.youtube_vos.youtube_vos_sequences`."""

    root: str = location()
    split: str = MISSING
    part: str | None = one_of("fit", "held_out")
    held_out: int = within(low=1)
    seed: int = within(low=0)
    sequences: list[str] | None = MISSING
    short_side: int | None = within(low=16)


@dataclass
class YoutubeVos(Dataset):
    """YouTube-VOS."""

    root: str = location()
    train: YoutubeVosSequences = field(default_factory=YoutubeVosSequences)
    val: YoutubeVosSequences = field(default_factory=YoutubeVosSequences)
    test: YoutubeVosSequences = field(default_factory=YoutubeVosSequences)


@dataclass
class FolderSequences(Target):
    """Arguments of `eosvos.data.folder.folder_sequences`."""

    images: str = location()
    masks: str = location()
    annotated: list[str] | None = MISSING
    sequences: list[str] | None = MISSING
    short_side: int | None = within(low=16)


@dataclass
class Folder(Dataset):
    """Folders of frames and masks."""

    images: str = location()
    masks: str = location()
    annotated: list[str] | None = MISSING
    train: FolderSequences = field(default_factory=FolderSequences)
    val: FolderSequences = field(default_factory=FolderSequences)
    test: FolderSequences = field(default_factory=FolderSequences)


@dataclass
class TorchvisionResnet(Target):
    """Arguments of `eosvos.models.backbones.torchvision_resnet`."""

    name: str = one_of("resnet18", "resnet34", "resnet50", "resnet101")
    weights: str = location()
    norm: str = one_of(*NORMS)
    fpn_channels: int = within(low=1)
    frozen_stages: int = within(low=0, high=4)


@dataclass
class TimmBackbone(Target):
    """Arguments of `eosvos.models.backbones.timm_backbone`."""

    name: str = MISSING
    weights: str = location()
    norm: str = one_of(*NORMS)
    fpn_channels: int = within(low=1)
    out_indices: list[int] | None = within(low=0)
    frozen_stages: int = within(low=0, high=5)


@dataclass
class TinyBackbone(Target):
    """Arguments of `eosvos.models.backbones.tiny_backbone`."""

    width: int = within(low=4)
    fpn_channels: int = within(low=4)
    levels: int = within(low=1, high=5)


@dataclass
class Semantic(Target):
    """Arguments of `eosvos.models.semantic.SemanticSegmenter`, but the backbone."""

    loss: str = one_of("dice_bce", "dice", "bce", "class_balanced")
    channels: int = within(low=2)
    rates: list[int] = within(low=1)
    min_size: int | None = within(low=16)
    max_size: int | None = within(low=16)


@dataclass
class MaskRcnn(Target):
    """Arguments of `eosvos.models.mask_rcnn.MaskRCNN`, but the backbone."""

    weights: str = location()
    variant: str = one_of("published", "torchvision")
    min_size: int | None = within(low=16)
    max_size: int = within(low=16)
    anchor_sizes: list[Any] = within(above=0)
    anchor_ratios: list[float] = within(above=0)
    rpn_proposals_train: int = within(low=1)
    rpn_proposals_test: int = within(low=1)
    rpn_samples: int = within(low=2)
    roi_samples: int = within(low=2)
    box_roi: int = within(low=1)
    box_features: int = within(low=1)
    mask_roi: int = within(low=1)
    sampling_ratio: int = within(low=1)
    mask_channels: int = within(low=1)
    mask_layers: int = within(low=1)
    mask_loss: str = one_of("lovasz", "bce")
    proposals: str = one_of("extend", "replace", "none")
    prior_proposals: int = within(low=1)
    select: str = one_of("score", "score_iou")
    score_threshold: float = within(low=0, high=1)
    nms_threshold: float = within(low=0, high=1)
    train_jitter: int = within(low=0)
    head_norm: bool = MISSING


@dataclass
class Csv(Target):
    """Arguments of CsvLog."""

    save_dir: str = location()
    name: str = blank()
    version: str = blank()


@dataclass
class Tensorboard(Csv):
    """Arguments of Lightning's TensorBoardLogger."""

    default_hp_metric: bool = MISSING


@dataclass
class Wandb(Target):
    """Arguments of Lightning's WandbLogger."""

    project: str = MISSING
    name: str | None = MISSING
    save_dir: str = location()
    offline: bool = MISSING


COMPONENTS: dict[str, type] = {
    "synthetic": Synthetic,
    "davis": Davis,
    "youtube_vos": YoutubeVos,
    "folder": Folder,
    "torchvision_resnet": TorchvisionResnet,
    "timm_backbone": TimmBackbone,
    "tiny_backbone": TinyBackbone,
    "mask_rcnn": MaskRcnn,
    "semantic": Semantic,
    "csv": Csv,
    "tensorboard": Tensorboard,
    "wandb": Wandb,
}

NETWORKS: dict[str, type] = {
    "eosvos.models.mask_rcnn.MaskRCNN": MaskRcnn,
    "eosvos.models.semantic.SemanticSegmenter": Semantic,
    "eosvos.models.backbones.tiny_backbone": TinyBackbone,
    "eosvos.models.backbones.timm_backbone": TimmBackbone,
    "eosvos.models.backbones.torchvision_resnet": TorchvisionResnet,
}
"""The components that a checkpoint brings along, by `_target_`."""
