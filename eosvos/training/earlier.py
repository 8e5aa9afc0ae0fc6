"""What an earlier run has left in the folder of one that begins anew there."""

import shutil
from pathlib import Path

from eosvos.config.training import Config
from eosvos.evaluation.folders import VALIDATION, is_resumed_in
from eosvos.writing import remove

LEFT = (
    *(f"checkpoints/{name}" for name in ("last.ckpt", "parent-last.ckpt", "best.ckpt", "initialisation.pt")),
    "csv/metrics*.csv",
    "tensorboard/events.out.tfevents.*",
)
"""Of which run they are, nobody could tell afterwards."""


def forget_earlier(config: Config) -> None:
    """With overwrite=true, delete checkpoints, logs and pictures of an earlier run in the run's folder.

    A run that is resumed there goes on with them; the checkpoint that this one starts from stays.
    """
    folder = Path(config.output)
    if not config.overwrite or is_resumed_in(config, folder) or not (folder / "run.json").is_file():
        return
    found = [path for pattern in LEFT for path in folder.glob(pattern)]
    # Of several data sets, each has a best checkpoint with its score beside it.
    for score in folder.glob("checkpoints/best*.json"):
        found += [score, score.with_suffix(".ckpt")]
    start = Path(str(config.checkpoint)).resolve()
    remove(path for path in found if path.resolve() != start)
    for validation in (folder / VALIDATION).glob("[0-9]*"):
        shutil.rmtree(validation, ignore_errors=True)
