"""Meta-training of DeepLabV3+ at tiny size, from the configuration to a segmented video."""

import torch
from helpers import SMALL, config

from eosvos import Predictor, load_checkpoint
from eosvos.training.train import train

NETWORK = (
    "segmenter=deeplabv3plus",
    "segmenter.weights=none",
    "backbone=resnet18",
    "backbone.weights=none",
    "backbone.fpn_channels=4",
)
RUN = (
    "iterations=2",
    "val_every=2",
    "meta.batch_size=1",
    "meta.order=second_order",
    "dataset.test.num_videos=1",
)


def test_two_iterations_and_what_the_checkpoint_segments(tmp_path):
    small = [key for key in SMALL if not key.startswith("backbone.")]
    learner = train(config(*small, *NETWORK, *RUN, output=tmp_path)).learner
    loaded = load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    state = loaded.learner.state_dict()
    assert all(torch.equal(state[key], value) for key, value in learner.state_dict().items())
    frames = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    mask = torch.zeros(32, 48, dtype=torch.uint8)
    mask[8:20, 10:30] = 1
    first, second = Predictor(loaded.learner, loaded.finetune).segment_frames(frames, mask)
    assert first.equal(mask)
    assert second.shape == mask.shape
