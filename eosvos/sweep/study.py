"""A study of Optuna, stored where several processes share it: what its trials choose, and who is at them."""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from eosvos.config.search import Search
from eosvos.errors import UserError
from eosvos.seeding import derive_seed

# Every trial is a job, which is said.
optuna.logging.set_verbosity(optuna.logging.WARNING)


class Study:
    """The study of a sweep's folder, which is made if there is none yet; raises UserError."""

    def __init__(self, settings: Search, folder: Path) -> None:
        self.settings = settings
        url = settings.storage or f"sqlite:///{folder.resolve()}/study.db"
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if settings.pruner == "median":
            pruner = optuna.pruners.MedianPruner(settings.pruner_startup_trials, settings.pruner_warmup_steps)
        try:
            self.storage = optuna.storages.get_storage(url)
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=settings.study_name,
                pruner=pruner,
                direction="maximize",
                load_if_exists=True,
            )
        except (SQLAlchemyError, ImportError, optuna.exceptions.OptunaError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"the study in {url} cannot be opened ({reason}): choose another hydra.sweeper.storage"
            ) from error

    def check_same(self, folder: Path, words: Sequence[str]) -> None:
        """Raise UserError if the study belongs to another folder or command; words: what that sets."""
        mine = {"folder": str(folder.resolve()), "command": sorted(words)}
        for name, value in mine.items():
            if self.study.user_attrs.get(name, value) != value:
                raise UserError(
                    f"study {self.settings.study_name} is that of another {name}, "
                    f"{self.study.user_attrs[name]}: repeat it, or choose another hydra.sweep.dir or "
                    "hydra.sweeper.study_name"
                )
            self.study.set_user_attr(name, value)

    def trials(self) -> list[FrozenTrial]:
        """All trials by their number, as they are now."""
        return self.study.get_trials(deepcopy=False)

    def trial(self, number: int) -> Trial:
        """A trial that was begun, perhaps by another process."""
        study = self.storage.get_study_id_from_name(self.settings.study_name)
        return Trial(self.study, self.storage.get_trial_id_from_study_id_trial_number(study, number))

    def choose(self, number: int, space: Sequence[Override]) -> dict[str, str]:
        """The text of each key of a trial: what was chosen before, or is now.

        What is drawn is a function of the study's seed, the trial's number and, with tpe, the other trials.
        """
        seed = derive_seed(self.settings.seed, "trial", number) % 2**32
        if self.settings.sampler == "tpe":
            startup = self.settings.n_startup_trials
            self.study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
        else:
            self.study.sampler = optuna.samplers.RandomSampler(seed=seed)
        trial = self.trial(number)
        return {one.get_key_element(): suggest(trial, one) for one in space}


def suggest(trial: optuna.trial.BaseTrial, override: Override) -> str:
    """What a trial sets a key to, as text: one of a list; of a range or interval a number, ordered.

    An interval includes its end, a range does not. Raises ValueError for bounds that make none.
    """
    key, value = override.get_key_element(), override.value()
    if isinstance(value, IntervalSweep):
        low, high, step, log = value.start, value.end, None, "log" in value.tags
    elif isinstance(value, RangeSweep):
        numbers = sorted(value.range())
        low, high, step, log = numbers[0], numbers[-1], abs(value.step), "log" in value.tags
    else:
        return str(trial.suggest_categorical(key, list(override.sweep_string_iterator())))
    assert low is not None
    assert high is not None
    if isinstance(low, int) and isinstance(high, int):
        return str(trial.suggest_int(key, low, high, step=int(step or 1), log=log))
    # The last digits say nothing, and are not those of the step.
    return f"{trial.suggest_float(key, low, high, step=step, log=log):.6g}"


class Claims:
    """Which trials the processes of a search are at: each has locks on bytes of a file, which the system
    frees when the process ends, however it does.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "ab")  # noqa: SIM115  # for as long as this process searches

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one process at a time into the block."""
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, 0)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, 0)

    def claim(self, number: int) -> bool:
        """Whether a trial is this process's from now on: no other is at it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1 + number)
        except (BlockingIOError, PermissionError):
            return False
        return True


def next_batch(study: Study, claims: Claims, space: Sequence[Override]) -> dict[int, dict[str, str]]:
    """The trials that this process does next, by consecutive numbers: the text of each key of the space.

    Those come first that another process left unfinished when it ended; empty when there are enough.
    """
    settings, batch = study.settings, list[int]()
    with claims.alone():
        trials = study.trials()
        for trial in trials:
            follows = not batch or trial.number == batch[-1] + 1
            left = trial.state == TrialState.RUNNING and follows and len(batch) < settings.n_jobs
            if left and claims.claim(trial.number):
                batch.append(trial.number)
        if not batch:
            fresh = range(len(trials), min(len(trials) + settings.n_jobs, settings.n_trials))
            batch = [study.study.ask().number for _ in fresh]
            for number in batch:
                claims.claim(number)
        return {number: study.choose(number, space) for number in batch}
