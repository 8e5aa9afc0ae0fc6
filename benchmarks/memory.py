"""Peak memory of segmenting a short and a long video, each in a process of its own.

    uv run benchmarks/memory.py [FRAMES ...]            # default: 50 500

The peaks should be equal but for noise: the predictor holds a few frames at a time.
"""

import resource
import subprocess
import sys

import torch

from eosvos.config import models as config
from eosvos.config.data import Synthetic
from eosvos.config.inference import Finetune, Online
from eosvos.config.meta import InnerLR
from eosvos.data.synthetic import SyntheticVideo
from eosvos.inference.predictor import Predictor
from eosvos.meta.learner import MetaLearner
from eosvos.models.backbones import tiny_backbone
from eosvos.models.light_deeplab import LightDeepLab

CHILD = "--child"


def peak_megabytes(frames: int) -> float:
    """Segment a video of so many frames, adapting online: the peak resident memory of this process, MB."""
    torch.set_num_threads(1)
    backbone = tiny_backbone(config.TinyBackbone(width=16))
    learner = MetaLearner(LightDeepLab(backbone, config.LightDeepLab()), InnerLR(init=0.01))
    finetune = Finetune(steps=2, batch_size=1, augment=False, online=Online(every=5, steps=1))
    video = SyntheticVideo(0, Synthetic(size=[240, 432], num_frames=frames))
    for _ in Predictor(learner, finetune).segment(video):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print a line for each length."""
    if CHILD in sys.argv:
        print(peak_megabytes(int(sys.argv[-1])))
        return
    for frames in sys.argv[1:] or ["50", "500"]:
        done = subprocess.run(
            [sys.executable, __file__, CHILD, frames], capture_output=True, text=True, check=True
        )
        print(f"{frames:>6} frames: peak {float(done.stdout):.0f} MB")


if __name__ == "__main__":
    main()
