"""Starting from a checkpoint: what it brings along, and what may be set beside it."""

from omegaconf import OmegaConf

from eosvos.config.command_line import overridden
from eosvos.config.training import Config
from eosvos.errors import UserError
from eosvos.meta.checkpoint import LoadedCheckpoint, load_checkpoint

BROUGHT_ALONG = ("segmenter", "backbone", "meta.inner_lr", "meta.train_encoder")
INDEPENDENT_OF_WEIGHTS = (
    "meta.order",
    "meta.inner_lr.max_grad_norm",
    "segmenter.nms_threshold",
    "segmenter.prior_proposals",
    "segmenter.proposals",
    "segmenter.rpn_proposals_test",
    "segmenter.score_threshold",
    "segmenter.select",
)


def with_checkpoint(config: Config) -> tuple[Config, LoadedCheckpoint | None]:
    """Load config.checkpoint, if any; returns the configuration with the checkpoint's model in it, too.

    Raises UserError if the command line asks for another model.
    """
    if config.checkpoint is None:
        return config, None
    asked = OmegaConf.create(config.model_dump())
    keys = overridden()
    changes = {key: OmegaConf.select(asked, key) for key in keys if key in INDEPENDENT_OF_WEIGHTS}
    loaded = load_checkpoint(config.checkpoint, changes=changes, trusted=config.trusted)
    merged = loaded.model.into(config)
    brought = OmegaConf.create(merged.model_dump())
    for key in keys:
        ours, its = OmegaConf.select(asked, key), OmegaConf.select(brought, key)
        if key.startswith(BROUGHT_ALONG) and ours != its:
            there = "" if OmegaConf.is_config(its) else f", which has {its}"
            raise UserError(
                f"{key} cannot be changed beside checkpoint={config.checkpoint}{there}: leave it out, or "
                "train a new network without checkpoint="
            )
    return merged, loaded
