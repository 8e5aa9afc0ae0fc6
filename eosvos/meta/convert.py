"""Checkpoints in other layouts: ours to export, the published one, the Hugging Face Hub."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from eosvos.config.pretrained import HUB
from eosvos.errors import UserError
from eosvos.meta.checkpoint import LoadedCheckpoint, load_checkpoint
from eosvos.meta.exported import write_exported
from eosvos.meta.hub import upload
from eosvos.meta.model import without_weights
from eosvos.meta.published import to_published
from eosvos.meta.stored import FORMAT, KEY, PREFIX, Stored
from eosvos.models.segmenter import Segmenter
from eosvos.models.weights import check_fit, save_whole


def convert_checkpoint(
    checkpoint: str | Path,
    target: str | Path,
    half: bool = False,
    trusted: Sequence[str] = (),
    toward: tuple[str | Path, float] | None = None,
) -> str:
    """Write a checkpoint (see `load_checkpoint`) in another layout; returns a line that says what it was.

    toward: another checkpoint of the same network, such as the parent, and the share of the way to its
    weights (0..1) by which the weights are moved; inner learning rates stay (Wortsman et al., CVPR 2022).
    target: a new file FILE.model, of the published layout; hf://OWNER/NAME, which is uploaded to; or a new
    folder. half: weights and inner learning rates get 16 bits. Raises UserError if the target is there, or
    cannot hold the checkpoint.
    """
    target = str(target)
    place = Path(target).expanduser()
    if not target.startswith(HUB) and place.exists():
        raise UserError(f"{target} is there already: choose another name")
    loaded = load_checkpoint(checkpoint, trusted=trusted)
    if toward is not None:
        _move(loaded.learner.segmenter, *toward, trusted)
    # Copies: safetensors takes no two tensors that share memory, as those of one learning rate do.
    state = {name: value.clone() for name, value in loaded.learner.state_dict().items()}
    if half:
        state = _halved(state, f"checkpoint={checkpoint}")
    if target.startswith(HUB):
        with TemporaryDirectory() as folder:
            _export(loaded, state, Path(folder))
            upload(Path(folder), target)
    elif target.endswith(".model"):
        content = to_published(place, loaded.model, state, loaded.iteration)
        # The published system's torch reads no zip.
        save_whole(place, content, zipped=False)
    else:
        _export(loaded, state, place)
    size = sum(value.nbytes for value in state.values()) / 2**20
    values = sum(value.numel() for value in state.values())
    return f"{target}: {len(state)} tensors, {values:,} values, {size:.1f} MiB"


def push_to_hub(
    checkpoint: str | Path, repository: str, half: bool = False, trusted: Sequence[str] = ()
) -> str:
    """Export a checkpoint to OWNER/NAME on the Hugging Face Hub; otherwise as `convert_checkpoint`."""
    return convert_checkpoint(checkpoint, HUB + repository, half, trusted)


def _export(loaded: LoadedCheckpoint, state: dict[str, Tensor], folder: Path) -> None:
    model = without_weights(loaded.model)
    stored = Stored(format=FORMAT, stage=loaded.stage, model=model, finetune=loaded.finetune)
    configuration = {KEY: stored.model_dump(), "iteration": loaded.iteration}
    write_exported(folder, configuration, {PREFIX + name: value for name, value in state.items()})


def _move(segmenter: Segmenter, other: str | Path, share: float, trusted: Sequence[str]) -> None:
    if not 0 <= share <= 1:
        raise UserError(f"{share} is no share of the way to checkpoint={other}: give a number from 0 to 1")
    weights = segmenter.state_dict()
    goal = load_checkpoint(other, trusted=trusted).learner.segmenter.state_dict()
    for expected, there in ((weights, goal), (goal, weights)):
        check_fit(expected, there, f"checkpoint={other}")
    for name, value in weights.items():
        # It shares the memory of the weight.
        if value.is_floating_point():
            value.lerp_(goal[name], share)


def _halved(state: dict[str, Tensor], beginning: str) -> dict[str, Tensor]:
    halved = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    for name, value in halved.items():
        if not value.isfinite().all():
            raise UserError(f"{beginning}: {name} has values too large for 16 bits: leave half precision out")
    return halved
