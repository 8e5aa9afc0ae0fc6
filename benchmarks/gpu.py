"""How long passes and frames take on a GPU in single precision, TF32 and bf16, beside a bare pass.

    uv run benchmarks/gpu.py [KEY=VALUE ...]     # the keys of train.py

Without keys, of the published network at 480p: five minutes on one GPU. Without one it runs on the CPU,
which small keys make bearable. Weights are random and every score is a detection, so that an object is
followed. A row has milliseconds, and how many bare passes of one frame in the same column they are. A second
table has the settings that may make it faster, each against none of them: layout, autotuning, torch.compile,
and an encoder that is not adapted, whose features are computed once of a copy that is used again.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product, repeat
from typing import NamedTuple

import torch
from overhead import backbone_passes, bare_pass, load_config
from torch import Tensor

from eosvos.config.data import Synthetic
from eosvos.config.inference import Finetune
from eosvos.data.synthetic import SyntheticVideo
from eosvos.inference.predictor import Predictor
from eosvos.inference.timing import Timing
from eosvos.meta.learner import MetaLearner
from eosvos.meta.model import Model, build_learner, without_weights
from eosvos.models.compiled import CompiledEncoder
from eosvos.models.segmenter import Batch
from eosvos.seeding import isolated_rng
from eosvos.setup import device_for

PUBLISHED = ["segmenter=mask_rcnn", "backbone=resnet50", "meta=paper", "dataset.size=[480,854]"]
NOT_ENLARGED = ["segmenter.min_size=null", "segmenter.roi_samples=64"]
PRESETS = ("e_osvos_10", "e_osvos_50_ona", "fast")
COLUMNS = {"fp32": ("highest", False), "TF32": ("high", False), "bf16": ("high", True)}
"""By name: the precision of products of float32 matrices, with which convolutions go, and whether there is
autocast to bfloat16.
"""
SETTINGS = ("none", "channels_last", "benchmark", "compile")
"""What of `trainer` is true."""
STEPS, FRAMES, ROUNDS = 5, 41, 7


class Network(NamedTuple):
    """A learner with random weights, how it adapts, by preset, and a video with its first frame and mask."""

    learner: MetaLearner
    finetune: dict[str, Finetune]
    video: SyntheticVideo
    frame: Batch


def network(keys: list[str], device: torch.device, frames: int) -> Network:
    """The network and the video of some keys of train.py."""
    keys = [*keys, "segmenter.score_threshold=0"]
    finetune = {preset: load_config([f"finetune={preset}", *keys]).finetune for preset in PRESETS}
    config = load_config(keys)
    learner = build_learner(without_weights(Model.of(config)), config.seed).to(device)
    video = SyntheticVideo(0, Synthetic(size=config.dataset.train["size"], num_frames=frames, max_objects=1))
    frame = video.image(0).to(device).float()[None] / 255, (video.mask(0) == 1).to(device, torch.uint8)[None]
    return Network(learner, finetune, video, frame)


def repeated(batch: Batch, copies: int) -> Batch:
    """A batch so many times."""
    images, masks = batch
    return torch.cat([images] * copies), torch.cat([masks] * copies)


def passes(net: Network, not_enlarged: Network) -> dict[str, tuple[int, Callable[[], object]]]:
    """By name: how many passes or frames are in it, and what to run; the bare pass is the first."""
    learner, one = net.learner, net.frame
    three = repeated(one, 3)
    weights = [0.0] * (STEPS - 1) + [1.0]
    rows: dict[str, tuple[int, Callable[[], object]]] = {
        "bare forward and backward, 1 frame": (1, lambda: bare_pass(learner, *one)),
        "the same, not enlarged, 64 regions": (1, lambda: bare_pass(not_enlarged.learner, *one)),
        "the same, 3 frames": (1, lambda: bare_pass(learner, *three)),
        "inner step at test time": (STEPS, lambda: learner.adapt(repeat(one, STEPS))),
        "pass of the meta-gradient": (
            STEPS + 1,
            lambda: learner.meta_gradient(repeat(one, STEPS), [one], weights),
        ),
        **backbone_passes(learner, one[0]),
    }
    for count in (1, 4, 8):
        frames, _ = repeated(one, count)
        rows[f"features of a frame, {count} at once"] = (
            count,
            lambda frames=frames: features(learner, frames),
        )
    return rows


@torch.no_grad()
def features(learner: MetaLearner, frames: Tensor) -> None:
    """Compute the features of frames [B, 3, H, W]."""
    learner.segmenter.features(frames)


def milliseconds(run: Callable[[], object], device: torch.device) -> float:
    """The median of some rounds, after one that does not count."""
    seconds = []
    for round_number in range(ROUNDS + 1):
        with isolated_rng("benchmark", round_number):
            _wait(device)
            started = time.perf_counter()
            run()
            _wait(device)
            seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds[1:])


def column(net: Network, not_enlarged: Network) -> dict[str, float]:
    """Milliseconds by name of a pass or a frame."""
    device = net.frame[0].device
    rows = {name: milliseconds(run, device) / n for name, (n, run) in passes(net, not_enlarged).items()}
    for preset, finetune in net.finetune.items():
        timing = segmented(net.learner, finetune, net.video)
        rows[f"propagated frame, {preset}"] = 1000 * timing.seconds_per_frame
        rows[f"frame, adaptation included, {preset}"] = 1000 * timing.seconds_per_step
    return rows


@contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Compute as a column says."""
    matrices, autocast = COLUMNS[name]
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(matrices)
    # Convolutions have a switch of their own, which is on unless it is turned off.
    torch.backends.cudnn.allow_tf32 = matrices != "highest"
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@contextmanager
def setting(name: str, learner: MetaLearner) -> Iterator[None]:
    """Compute with a learner as one of the settings says."""
    last = name == "channels_last"
    learner.to(memory_format=torch.channels_last if last else torch.contiguous_format)
    torch.backends.cudnn.benchmark = name == "benchmark"
    torch._dynamo.reset()
    learner.segmenter.compiled = CompiledEncoder() if name == "compile" else None
    yield
    learner.to(memory_format=torch.contiguous_format)
    torch.backends.cudnn.benchmark, learner.segmenter.compiled = False, None


def settings_table(net: Network) -> dict[str, list[float]]:
    """By precision and setting: milliseconds of passes of 1 and 3 frames, of the features of a frame of 4,
    and of a frame with e_osvos_10, adaptation included; the peak of memory in GiB.
    """
    device, found = net.frame[0].device, {}
    three, (four, _) = repeated(net.frame, 3), repeated(net.frame, 4)
    runs = {
        1: lambda: bare_pass(net.learner, *net.frame),
        3: lambda: bare_pass(net.learner, *three),
        4: lambda: features(net.learner, four),
    }
    for matrices, name in product(("TF32", "bf16"), SETTINGS):
        with precision(matrices, device), setting(name, net.learner), peak(net.learner, device) as gib:
            times = [milliseconds(run, device) for run in runs.values()]
            if name in ("benchmark", "compile"):
                # What is compiled or tried out once, for adapted weights, too, does not count.
                segmented(net.learner, net.finetune["e_osvos_10"], net.video)
            whole = segmented(net.learner, net.finetune["e_osvos_10"], net.video).seconds_per_step
        found[f"{matrices}, {name}"] = [*times[:2], times[2] / 4, 1000 * whole, *gib]
    return found


@contextmanager
def peak(learner: MetaLearner, device: torch.device) -> Iterator[list[float]]:
    """The peak of what a learner and the block allocate on a GPU, GiB, in the list when it is over."""
    found: list[float] = []
    if device.type != "cuda":
        yield found
        found.append(0.0)
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    # Of other networks, too.
    before = torch.cuda.memory_allocated()
    own = sum(weight.nbytes for weight in learner.state_dict().values())
    yield found
    found.append((torch.cuda.max_memory_allocated() - before + own) / 2**30)


def segmented(learner: MetaLearner, finetune: Finetune, video: SyntheticVideo) -> Timing:
    """The seconds that segmenting a video takes."""
    predictor = Predictor(learner, finetune)
    for _ in predictor.segment(video):
        pass
    return predictor.timing


def frozen_table(net: Network) -> dict[str, float]:
    """Milliseconds of a frame with e_osvos_10, adaptation included, by the number of distinct copies."""
    finetune = net.finetune["e_osvos_10"]
    settings = {f"distinct_copies={n}": finetune.model_copy(update={"distinct_copies": n}) for n in (None, 3)}
    with precision("TF32", net.frame[0].device):
        times = {name: segmented(net.learner, one, net.video) for name, one in settings.items()}
    return {name: 1000 * timing.seconds_per_step for name, timing in times.items()}


def table(nets: tuple[Network, Network]) -> dict[str, dict[str, float]]:
    """By column, milliseconds by row, of a network and of the same where frames are not enlarged."""
    columns = {}
    for name in COLUMNS:
        with precision(name, nets[0].frame[0].device):
            columns[name] = column(*nets)
    return columns


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Measure, and print the tables."""
    keys, device = sys.argv[1:] or PUBLISHED, device_for("auto")
    whole, not_enlarged, frozen = (
        network([*keys, *more], device, FRAMES) for more in ([], NOT_ENLARGED, ["meta.train_encoder=false"])
    )
    columns = table((whole, not_enlarged))
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name() if cuda else "CPU"
    print(f"{name:42}" + "".join(f"{column:>17}" for column in columns))
    bare = {column: next(iter(rows.values())) for column, rows in columns.items()}
    for row in next(iter(columns.values())):
        cells = ((rows[row], rows[row] / bare[column]) for column, rows in columns.items())
        print(f"{row:42}" + "".join(f"{ms:9.1f} ({ratio:5.2f})" for ms, ratio in cells))
    if cuda:
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    print(f"\n{'trainer.':22}    1 frame   3 frames   features e_osvos_10   peak GiB")
    for name, values in settings_table(whole).items():
        print(f"{name:22}" + "".join(f"{value:11.1f}" for value in values))
    for name, value in frozen_table(frozen).items():
        print(f"e_osvos_10, encoder not adapted, {name}: {value:.1f}")


if __name__ == "__main__":
    main()
