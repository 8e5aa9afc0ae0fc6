"""Where a run writes: its own folder, and that of masks and tables; both apart from all that it reads."""

from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig

from eosvos.data.sequence import VideoSequence
from eosvos.evaluation.results import ResultsFolder
from eosvos.writing import check_apart


def results_at(cfg: DictConfig) -> ResultsFolder:
    """The folder for masks and tables of the test videos; nothing is done there yet.

    The tables are called after the split, the range of synthetic videos, or `all`.
    """
    split = cfg.dataset.test.get("split") or cfg.dataset.test.get("range_name") or "all"
    root = Path(cfg.results).expanduser() if cfg.results else Path(cfg.output) / "results"
    return ResultsFolder(root, split.replace("/", "-"))


def check_places(cfg: DictConfig, test: list[VideoSequence], others: Iterable[VideoSequence]) -> None:
    """Raise UserError where the run would write into what it reads, or over what it did not write.

    test: the videos that masks are written of. others: those that are read beside them.
    """
    read = {path for video in (*test, *others) for path in video.folders}
    check_apart([Path(cfg.output)], read, "hydra.run.dir")
    results_at(cfg).check(test, read)
