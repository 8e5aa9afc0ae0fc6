"""The folders that a run writes into: places of its own. Nothing is made or written here."""

import os
import sys
from collections.abc import Collection
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from eosvos.config.command_line import job_overrides, overrides, run_mode
from eosvos.config.data import Video
from eosvos.config.training import Config
from eosvos.data.splits import Splits, Videos, list_videos
from eosvos.errors import UserError
from eosvos.evaluation.provenance import RECORD, recorded
from eosvos.evaluation.reports import REPORTS
from eosvos.evaluation.results import MANIFEST, ResultsFolder
from eosvos.processes import is_rank_zero
from eosvos.writing import check_apart, check_writable

VALIDATION = "validation"
"""The folder of what validations leave behind."""
WRITTEN = (*RECORD, *REPORTS, "checkpoints", VALIDATION)
"""What a run replaces in its folder."""


def folder_key() -> str:
    """The setting that chooses a run's folder."""
    if run_mode() is None or "output" in overrides():
        return "output"
    return "hydra.sweep.dir" if run_mode() == RunMode.MULTIRUN else "hydra.run.dir"


def check_folders(config: Config, training: bool) -> None:
    """Raise UserError unless a run can write into its folders without harm to what is there.

    Only its main process asks: the others come when it has begun to write.
    """
    if not is_rank_zero():
        return
    key, folder = folder_key(), Path(config.output)
    check_place(folder, key)
    if HydraConfig.initialized():
        # Where `output` is set, Hydra writes its log into a folder of its own.
        check_place(Path(HydraConfig.get().runtime.output_dir), "hydra.run.dir")
    taken = [name for name in WRITTEN if os.path.lexists(folder / name)]
    goes_on, command = _goes_on(config, folder, training), recorded(folder, "command")
    if taken and command is None and not goes_on:
        raise UserError(
            f"{folder} holds another run or project, {taken[0]} without the run.json of eosvos: choose "
            f"another folder, {key}=DIR, or move it away"
        )
    if taken and not config.overwrite and not goes_on:
        raise UserError(
            f"{folder} holds another run: choose another folder, {key}=DIR, or set overwrite=true to write "
            "over it" + (", or resume it from a checkpoint in it, with resume=true" if training else "")
        )
    if config.results is not None:
        check_writable(Path(config.results), "results")
        own = is_same_job(folder) or (is_resumed_in(config, folder) and _had_results(config, folder))
        if training and not (config.overwrite or own):
            _check_no_results(config, Path(config.results))


def _had_results(config: Config, folder: Path) -> bool:
    """Whether the run that a folder holds had the same folder for its results."""
    try:
        had = OmegaConf.select(OmegaConf.load(folder / "config.yaml"), "results")
    except OSError:
        return False
    return had is not None and Path(had).resolve() == Path(str(config.results)).resolve()


def _check_no_results(config: Config, results: Path) -> None:
    roots = [results, *(folder.root for folder in results_folders(config).values())]
    if any((root / MANIFEST).exists() for root in roots):
        raise UserError(f"results={results} holds results: choose another folder, or set overwrite=true")


def checked_videos(config: Config, training: bool) -> Splits:
    """The videos of a run; raises UserError if it would write over them, or over what is not its own."""
    check_folders(config, training)
    videos = list_videos(config, training)
    check_unread(config, videos.test, videos.folders)
    return videos


def check_place(folder: Path, key: str) -> None:
    """Raise UserError for a folder that cannot be written to, or is the working directory or above it."""
    if Path.cwd().is_relative_to(folder.resolve()):
        raise UserError(f"{key} would spill the run's files into {folder.resolve()}: name a folder for them")
    check_writable(folder, key)


def results_folders(config: Config) -> dict[str, ResultsFolder]:
    """The folders for masks and tables of the test videos, by the name of their data set; nothing is done
    there yet.

    Several data sets have one each, called as they are, in the folder that is configured. The tables are
    called after the split, or `all`.
    """
    root = Path(config.results or Path(config.output) / "results")
    tested = {name: source.test for name, source in config.dataset.sources.items() if source.test is not None}
    return {
        name: ResultsFolder(
            root / name,
            (test.get("split") or "all").replace("/", "-"),
            config.results_format or ("both" if test["_target_"] == Video.target else "png"),
        )
        for name, test in tested.items()
    }


def check_unread(config: Config, test: Videos, read: Collection[Path]) -> None:
    """Raise UserError if the run, or masks of the test videos, would take the place of files of others.

    read: folders and files that videos are read from.
    """
    check_apart([Path(config.output)], read, folder_key())
    for name, folder in results_folders(config).items():
        folder.check(test[name], read, config.overwrite)


def is_same_job(folder: Path) -> bool:
    """Whether this is a job of a sweep, and the folder holds one that was begun with the same settings."""
    return run_mode() == RunMode.MULTIRUN and recorded(folder, "overrides") == job_overrides()


def is_resumed_in(config: Config, folder: Path) -> bool:
    """Whether a training run goes on from a checkpoint in a folder."""
    return config.resume and Path(str(config.checkpoint)).resolve().is_relative_to(folder.resolve())


def _goes_on(config: Config, folder: Path, training: bool) -> bool:
    """Whether the run goes on with what the folder holds: it is resumed, or the same evaluation or job."""
    if is_same_job(folder):
        return True
    if training:
        return is_resumed_in(config, folder)
    if run_mode() is None:
        # Called from Python, there is no command to compare; results know themselves what they are of.
        return recorded(folder, "command") is not None and not (folder / "checkpoints").exists()
    return bool(recorded(folder, "command") == sys.argv)
