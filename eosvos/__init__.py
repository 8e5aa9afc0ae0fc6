"""eosvos: one-shot video object segmentation by learning how to fine-tune."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eosvos.data.sequence import VideoSequence
    from eosvos.evaluation.evaluate import evaluate
    from eosvos.inference.predictor import Predictor
    from eosvos.inference.video import VideoPredictor
    from eosvos.meta.checkpoint import load_checkpoint
    from eosvos.meta.convert import convert_checkpoint, push_to_hub
    from eosvos.meta.learner import MetaLearner
    from eosvos.training.train import train

__version__ = "0.1.0"
__all__ = [
    "MetaLearner",
    "Predictor",
    "VideoPredictor",
    "VideoSequence",
    "convert_checkpoint",
    "evaluate",
    "load_checkpoint",
    "push_to_hub",
    "train",
]

# Imported when they are asked for: most take torch, and --help must not wait for it.
_PLACES = {
    "MetaLearner": "eosvos.meta.learner",
    "Predictor": "eosvos.inference.predictor",
    "VideoPredictor": "eosvos.inference.video",
    "VideoSequence": "eosvos.data.sequence",
    "convert_checkpoint": "eosvos.meta.convert",
    "evaluate": "eosvos.evaluation.evaluate",
    "load_checkpoint": "eosvos.meta.checkpoint",
    "push_to_hub": "eosvos.meta.convert",
    "train": "eosvos.training.train",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
