"""What train.py would do with some overrides, for commands beside it."""

from collections.abc import Sequence

from hydra import compose, initialize_config_dir

from eosvos.config.checks import check
from eosvos.config.help import CONF
from eosvos.config.schema import register
from eosvos.config.training import Config


def composed(overrides: Sequence[str]) -> Config:
    """The checked configuration.

    Raises UserError, or an error of Hydra's for overrides that it cannot read.
    """
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return check(compose("train", overrides=["output=run", *overrides]))
