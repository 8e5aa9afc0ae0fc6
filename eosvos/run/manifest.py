"""What results are the results of, apart from the videos; two with the same manifest are the same."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from eosvos.evaluation.results import ResultsFolder
from eosvos.run.checkpoint import digest_of
from eosvos.run.folders import results_at
from eosvos.run.networks import model_config, plain_without, without_weights
from eosvos.run.record import versions


def results_folder(cfg: DictConfig, checkpoint: str | None, overwrite: bool) -> ResultsFolder:
    """The folder for masks and tables of the test videos, opened.

    checkpoint: the digest of the file that the network comes from, if any. Raises UserError if the folder
    holds the results of something else, unless these may be deleted.
    """
    folder = results_at(cfg)
    folder.open(manifest(cfg, checkpoint), overwrite)
    return folder


def manifest(cfg: DictConfig, checkpoint: str | None) -> dict[str, Any]:
    """What makes results, apart from the videos; the same wherever data and weights lie."""
    model = model_config(cfg)
    return {
        "eosvos": versions()["eosvos"],
        "checkpoint": checkpoint,
        # A checkpoint brings the weights, whatever files it once began with.
        "model": without_weights(model) if checkpoint else with_digests(model),
        "data": plain_without(cfg.dataset.test, "root", "images", "masks"),
        # As many frames as are looked at together, results are the same.
        "finetune": plain_without(cfg.finetune, "lookahead"),
        "seed": cfg.seed,
    }


def with_digests(settings: Any) -> Any:
    """Plain settings with the SHA-256 of each file that one names in the place of its name."""
    if isinstance(settings, dict):
        return {key: with_digests(value) for key, value in settings.items()}
    if isinstance(settings, list):
        return [with_digests(value) for value in settings]
    if isinstance(settings, str) and (path := Path(settings).expanduser()).is_file():
        return digest_of(path)
    return settings
