"""What a job of a search tells its study while it trains."""

from pathlib import Path
from typing import cast

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from optuna.trial import TrialState
from pytorch_lightning.callbacks import Callback

from eosvos.errors import Pruned
from eosvos.meta.module import MetaModule
from eosvos.processes import abort_all_ranks
from eosvos.sweep.jobs import job_name
from eosvos.sweep.space import search_settings
from eosvos.sweep.study import Study
from eosvos.sweep.table import VALIDATION


class ReportToStudy(Callback):
    """Tells the study val/J&F of each validation, and ends the job early where the study prunes it."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report, and raise Pruned in the main process, with which the others end."""
        module = cast(MetaModule, pl_module)
        pruned = trainer.is_global_zero and _is_pruned(module.iteration, module.scores[VALIDATION])
        if trainer.strategy.reduce_boolean_decision(pruned, all=False):
            name = job_name(HydraConfig.get())
            abort_all_ranks(f"{name} is pruned after {module.iteration} iterations", error=Pruned)


def _is_pruned(iteration: int, score: float) -> bool:
    """Report a score (0..1); whether the trial is pruned, which the study then knows."""
    hydra = HydraConfig.get()
    settings = search_settings(hydra)
    assert settings is not None
    study = Study(settings, Path(hydra.sweep.dir))
    number = int(hydra.sweep.subdir)
    trial = study.trial(number)
    # A job that goes on repeats validations since its checkpoint.
    if iteration not in study.trials()[number].intermediate_values:
        trial.report(score, iteration)
    pruned = trial.should_prune()
    if pruned:
        study.study.tell(number, state=TrialState.PRUNED)
    return pruned
