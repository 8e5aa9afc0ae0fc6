"""The sweeper of sweep=optuna, where Hydra finds it: it looks for plugins in the package hydra_plugins alone.

What it does is imported when it is asked for: any program that uses Hydra imports this file.
"""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class OptunaSweeper(BasicSweeper):
    """Lets Optuna choose the settings of a sweep's jobs; its own are those of eosvos.config.search.Search."""

    def __init__(self, **_: Any) -> None:
        super().__init__(max_batch_size=None)

    def sweep(self, arguments: list[str]) -> None:
        """Start jobs until the study has its trials."""
        from eosvos.sweep.search import search

        search(self.config, self.launcher)
