"""One-shot inference: fine-tuning on the annotated frame, and while the video goes by."""

from typing import Literal

from pydantic import Field

from eosvos.config.setting import Settings


class Online(Settings):
    """Adaptation to the network's own predictions while the video goes by (method, section 7)."""

    every: int | None = Field(None, ge=1)
    """Frames between two adaptations; null: no online adaptation."""
    steps: int = Field(10, ge=1)
    """Inner steps of each."""
    batch_size: int = Field(3, ge=1)
    """Frames in each: the annotated one, and batch_size - 1 of the last segment whose mask is not empty."""
    reset: Literal["meta_init", "first_frame", "current"] = "first_frame"
    """Weights that each starts from: meta-learned, fine-tuned on the first frame, or the current ones."""
    frames: Literal["oldest", "latest"] = "oldest"
    """Which frames of the last segment: oldest (as published) or latest."""


class Finetune(Settings):
    """Fine-tuning on the annotated frame (method, section 7)."""

    short_side: int | None = Field(None, ge=16)
    """Shorter side to which frames are resized, pixels, before the network sees them; null: as they are."""
    steps: int = Field(10, ge=0)
    """Inner steps on the annotated frame; 0: none."""
    batch_size: int = Field(3, ge=1)
    """Copies of the annotated frame in a step."""
    augment: bool = True
    """Augment each copy anew: flip, rotation of up to 30 degrees, scale 0.75 to 1.25."""
    distinct_copies: int | None = Field(None, ge=1)
    """Augmented copies that are made once and used again, in turn, one of each annotated frame at least;
    null: each step has new ones.
    """
    feature_batch_size: int = Field(4, ge=1)
    """Frames whose features are computed at once: more take more memory and less time."""
    fixed_lr: float | None = Field(None, gt=0)
    """One fixed learning rate for all weights, as after parent training alone; null: the learned ones. The
    table at the end of training has rows of its own for either.
    """
    online: Online = Online()
