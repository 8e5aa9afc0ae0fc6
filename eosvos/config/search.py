"""A search for settings: a sweep whose jobs are the trials of a study of Optuna."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from eosvos.config.setting import Settings


class Search(Settings):
    """Of sweep=optuna: a study, whose trials are jobs, and which processes share in the sweep's folder."""

    target: ClassVar[str] = "hydra_plugins.eosvos_optuna.OptunaSweeper"
    n_trials: int = Field(20, ge=1)
    """Trials of the study, over all processes that share it and all starts."""
    n_jobs: int = Field(1, ge=1)
    """Trials that a process starts at once, for hydra/launcher=joblib or slurm to run side by side."""
    storage: str | None = None
    """URL of the database that holds the study; null: study.db, of SQLite, in the sweep's folder."""
    study_name: str = "eosvos"
    """Name of the study in its database."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How values are chosen: tpe, by what earlier trials reached with theirs; or random."""
    seed: int = Field(0, ge=0)
    """Seed of the values: a trial's follow from it, the trial's number and, with tpe, the trials before."""
    n_startup_trials: int = Field(10, ge=1)
    """Trials with random values before tpe chooses."""
    pruner: Literal["median", "none"] = "median"
    """When a trial ends early: median, its best val/J&F is below the median of others by then; or never."""
    pruner_startup_trials: int = Field(5, ge=1)
    """Trials that must be finished before another one ends early."""
    pruner_warmup_steps: int = Field(0, ge=0)
    """Meta iterations that each trial has at least."""
    params: dict[str, Any] | None = None
    """Settings that all jobs have, values to choose from among them; the command line wins."""
