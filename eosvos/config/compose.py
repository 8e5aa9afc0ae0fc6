"""What train.py would do with some overrides, for commands beside it."""

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from eosvos.config.checks import check
from eosvos.config.help import CONF
from eosvos.config.schema import register
from eosvos.config.training import Config


def composed(overrides: Sequence[str]) -> Config:
    """The checked configuration; of a data set of pictures, val and test may be missing.

    Raises UserError, or an error of Hydra's for overrides that it cannot read.
    """
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=["output=run", *overrides])
    with open_dict(cfg):
        for part in ("val", "test"):
            if cfg.dataset.get("train") and cfg.dataset.get(part) is None:
                cfg.dataset[part] = "${dataset.train}"
    return check(cfg)
