"""The sweeper of sweep=optuna, where Hydra finds it: it looks for plugins in the package hydra_plugins alone.

What it does is imported when it is asked for: any program that uses Hydra imports this file.
"""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Lets Optuna choose the settings of a sweep's jobs; its own are those of eosvos.config.search.Search."""

    def __init__(self, **_: Any) -> None:
        self.launcher = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher that starts the jobs."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Start jobs until the study has its trials."""
        from eosvos.sweep.search import search

        search(self.config, self.launcher)
