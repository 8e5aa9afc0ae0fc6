"""The weights that come with eosvos."""

import numpy as np
import pytest
import torch

from eosvos.config.data import Synthetic
from eosvos.config.pretrained import FILES, PACKAGE
from eosvos.data.synthetic import synthetic_videos
from eosvos.digest import file_digest
from eosvos.inference.predictor import Predictor

SMALL = PACKAGE / "small"


def test_they_are_small_and_their_card_names_the_file():
    assert sum((SMALL / name).stat().st_size for name in FILES) < 12_000_000
    assert file_digest(*(SMALL / name for name in FILES)).hex() in (SMALL / "README.md").read_text()


def test_they_are_loaded_where_gradients_are_off():
    with torch.no_grad():
        learner = Predictor.from_pretrained("small").adapter
    assert 0 < len(learner.weights()) < len(list(learner.segmenter.parameters()))


@pytest.mark.slow
def test_they_segment_a_synthetic_clip():
    (video,) = synthetic_videos(Synthetic(split="test", num_videos=1, num_frames=4, max_objects=1))
    predictor = Predictor.from_pretrained("small")
    assert predictor.finetune.short_side == 400
    predictor = Predictor(predictor.adapter, predictor.finetune.model_copy(update={"short_side": 192}))
    labels = dict(predictor.segment(video))
    ious = []
    for t, name in enumerate(video.frame_names):
        predicted, true = labels[name].numpy() > 0, video.mask(t).numpy() > 0
        ious.append((predicted & true).sum() / (predicted | true).sum())
    assert np.mean(ious[1:]) > 0.6
