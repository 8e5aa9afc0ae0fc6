"""Peak memory of segmenting a short and a long video frame by frame, of a meta-gradient of few and many inner
steps, and of both at the published settings, each in a process of its own.

    uv run benchmarks/memory.py [NAME ...]      # of frames, steps, bare, preset, task

The peaks of a pair should be equal but for 5 % (frames) and 2 % (steps): the predictor holds a few frames at
a time, and first order keeps no inner step. So one step stands for all where the network is the published
one, Mask R-CNN with a ResNet-50 at 480p (minutes on a CPU). With a GPU the peak is what is allocated there.
"""

import resource
import subprocess
import sys
from collections.abc import Callable

import torch
from gpu import PUBLISHED, Network, network, repeated
from overhead import bare_pass

from eosvos.config import models as config
from eosvos.config.data import Synthetic
from eosvos.config.inference import Finetune, Online
from eosvos.config.meta import InnerLR
from eosvos.data.synthetic import SyntheticVideo
from eosvos.inference.predictor import Predictor
from eosvos.meta.learner import MetaLearner
from eosvos.models.backbones import tiny_backbone
from eosvos.models.light_deeplab import LightDeepLab
from eosvos.models.segmenter import Batch
from eosvos.setup import device_for


def build(width: int) -> MetaLearner:
    """A learner of a small network."""
    backbone = tiny_backbone(config.TinyBackbone(width=width))
    return MetaLearner(LightDeepLab(backbone, config.LightDeepLab()), InnerLR(init=0.01))


def published() -> Network:
    """The published network with random weights, and a video at 480p."""
    return network(PUBLISHED, device_for("auto"), 9)


def segment(frames: int) -> None:
    """Segment a video of so many frames, adapting online."""
    finetune = Finetune(steps=2, batch_size=1, augment=False, online=Online(every=5, steps=1))
    scene = SyntheticVideo(0, Synthetic(size=[120, 216], num_frames=frames))
    video = Predictor(build(16), finetune).video(scene.name)
    for t in range(frames):
        video.step(scene.image(t), scene.mask(t) if t == 0 else None)


def meta_gradient(steps: int) -> None:
    """Take the meta-gradient of a task of so many inner steps."""
    video = SyntheticVideo(0, Synthetic(size=[64, 96], max_objects=1))
    of_a_task(build(128), (video.image(0)[None].float() / 255, video.mask(0)[None]), steps)


def of_a_task(learner: MetaLearner, batch: Batch, steps: int) -> None:
    """Take the meta-gradient of a task whose frames are all the same."""
    learner.meta_gradient([batch] * steps, [batch], [0.0] * (steps - 1) + [1.0])


def bare(copies: int) -> None:
    """Take a forward and backward pass of so many frames, of the published network."""
    net = published()
    bare_pass(net.learner, *repeated(net.frame, copies))


def preset(steps: int) -> None:
    """Segment nine frames with e_osvos_10, but for the number of steps."""
    net = published()
    finetune = net.finetune["e_osvos_10"].model_copy(update={"steps": steps})
    for _ in Predictor(net.learner, finetune).segment(net.video):
        pass


def task(steps: int) -> None:
    """Take the meta-gradient of a task of so many inner steps, of the published network."""
    net = published()
    of_a_task(net.learner, net.frame, steps)


MEASUREMENTS: dict[str, tuple[Callable[[int], None], tuple[int, ...]]] = {
    "frames": (segment, (200, 2000)),
    "steps": (meta_gradient, (5, 20)),
    "bare": (bare, (1, 3)),
    "preset": (preset, (1,)),
    "task": (task, (1,)),
}


def main() -> None:
    """Print a line for each measurement; in a process of its own, which has two arguments, its peak in MB."""
    name, *count = sys.argv[1:] or [""]
    if count and count[0].isdecimal():
        torch.set_num_threads(1)
        MEASUREMENTS[name][0](int(count[0]))
        on_gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0
        print(on_gpu or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    for name in sys.argv[1:] or MEASUREMENTS:
        for number in MEASUREMENTS[name][1]:
            command = [sys.executable, __file__, name, str(number)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"{number:>6} {name:12} peak {float(done.stdout.split()[-1]):.0f} MB", flush=True)


if __name__ == "__main__":
    main()
