"""Where the masks and tables of a run go."""

from collections.abc import Collection
from pathlib import Path

from omegaconf import DictConfig

from eosvos.data.sequence import VideoSequence
from eosvos.evaluation.results import ResultsFolder


def results_at(cfg: DictConfig) -> ResultsFolder:
    """The folder for masks and tables of the test videos; nothing is done there yet.

    The tables are called after the split, the range of synthetic videos, or `all`.
    """
    split = cfg.dataset.test.get("split") or cfg.dataset.test.get("range_name") or "all"
    return ResultsFolder(cfg.results or Path(cfg.output) / "results", split.replace("/", "-"))


def check_results(cfg: DictConfig, test: list[VideoSequence], read: Collection[Path]) -> None:
    """Raise UserError where masks of the test videos would replace files that eosvos did not write.

    read: folders and files that videos are read from.
    """
    results_at(cfg).check(test, read, cfg.overwrite)
