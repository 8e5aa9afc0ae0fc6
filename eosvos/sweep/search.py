"""What a process does for sweep=optuna: trials of a shared study, as jobs of the sweep's launcher."""

from pathlib import Path

import optuna
from hydra.core.override_parser.types import Override
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from optuna.trial import TrialState

from eosvos.compat.hydra import sweep_overrides
from eosvos.errors import UserError
from eosvos.sweep.space import job_words, search_settings, swept
from eosvos.sweep.study import Claims, Study, next_batch, suggest
from eosvos.sweep.table import VALIDATION, Job, compare_jobs

WORDS = "words"
"""Under which name the study keeps what a trial sets."""


def search(config: DictConfig, launcher: Launcher) -> None:
    """Do trials until the study has enough, and print the table of its jobs.

    Each has the folder of its number; one that was interrupted goes on there, as the job of any sweep does.
    Raises UserError, and JobsFailedError if some have failed.
    """
    settings, folder = search_settings(config.hydra), Path(config.hydra.sweep.dir)
    assert settings is not None
    overrides = sweep_overrides(config)
    space = swept(overrides)
    _check_bounds(space)
    folder.mkdir(parents=True, exist_ok=True)
    claims = Claims(folder / "study.lock")
    with claims.alone():
        study = Study(settings, folder)
        study.check_same(folder, [str(one.input_line) for one in overrides])
    while batch := next_batch(study, claims, space):
        jobs = {number: job_words(overrides, chosen) for number, chosen in batch.items()}
        for number, words in jobs.items():
            study.trial(number).set_user_attr(WORDS, words)
        launched = [[*words, f"hydra.sweep.subdir={number}"] for number, words in jobs.items()]
        for result in launcher.launch(launched, initial_job_idx=min(jobs)):
            # Raises what a job has not said itself.
            _ = result.return_value
        for number in jobs:
            _tell(study, number, folder)
    _finish(study, folder, space)


def _check_bounds(space: list[Override]) -> None:
    """Raise UserError for an interval or a range that no value can be chosen from."""
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    for one in space:
        try:
            suggest(trial, one)
        except ValueError as error:
            raise UserError(f"{one.input_line} gives nothing to choose from: {error}") from None


def _tell(study: Study, number: int, folder: Path) -> None:
    """Tell the study what a job has reached, unless that was pruned, which it has told itself."""
    trial = study.trials()[number]
    if trial.state.is_finished():
        return
    measures = Job((), folder / str(number)).measures() or {}
    score = measures.get(VALIDATION, measures.get("J&F"))
    study.study.tell(number, score, None if score is not None else TrialState.FAIL)


def _finish(study: Study, folder: Path, space: list[Override]) -> None:
    """Print and write the table of the trials that are finished, and say which is best."""
    trials = study.trials()
    said = []
    if complete := [trial for trial in trials if trial.state == TrialState.COMPLETE]:
        best = max(complete, key=lambda trial: float(trial.value or 0))
        keys = [one.get_key_element() for one in space]
        words = [word for word in best.user_attrs[WORDS] if word.partition("=")[0] in keys]
        said.append(f"Best: trial {best.number} with {best.value:.3f}, {' '.join(words)}")
    if running := [trial.number for trial in trials if not trial.state.is_finished()]:
        said.append(f"{len(running)} trials are still under way in other processes")
    jobs = [
        Job(tuple(trial.user_attrs[WORDS]), folder / str(trial.number), trial.state == TrialState.PRUNED)
        for trial in trials
        if trial.state.is_finished()
    ]
    compare_jobs(jobs, folder, *said)
