"""What results are the results of, apart from the videos; two with the same manifest are the same."""

from pathlib import Path
from typing import Any

from eosvos.config.training import Config
from eosvos.evaluation.folders import results_at
from eosvos.evaluation.record import versions
from eosvos.evaluation.results import ResultsFolder
from eosvos.meta.checkpoint import digest_of
from eosvos.meta.model import Model, without_weights

LOCATIONS = {"root", "images", "masks"}
"""Settings of data sets that say where they lie."""


def results_folder(config: Config, checkpoint: str | None, overwrite: bool) -> ResultsFolder:
    """The folder for masks and tables of the test videos, opened.

    checkpoint: the digest of the file that the network comes from, if any. Raises UserError if the folder
    holds the results of something else, unless these may be deleted.
    """
    folder = results_at(config)
    folder.open(manifest(config, checkpoint), overwrite)
    return folder


def manifest(config: Config, checkpoint: str | None) -> dict[str, Any]:
    """What makes results, apart from the videos; the same wherever data and weights lie."""
    model = Model.of(config)
    # A checkpoint brings the weights, whatever files it once began with.
    settings = (without_weights(model) if checkpoint else model).model_dump()
    return {
        "eosvos": versions()["eosvos"],
        "checkpoint": checkpoint,
        "model": settings if checkpoint else with_digests(settings),
        "data": {key: value for key, value in config.dataset.test.items() if key not in LOCATIONS},
        # Results are the same, as many frames as are looked at together.
        "finetune": config.finetune.model_dump(exclude={"feature_batch_size"}),
        "seed": config.seed,
    }


def with_digests(settings: Any) -> Any:
    """Plain settings with the SHA-256 of each file that one names in the place of its name."""
    if isinstance(settings, dict):
        return {key: with_digests(value) for key, value in settings.items()}
    if isinstance(settings, list):
        return [with_digests(value) for value in settings]
    if isinstance(settings, str) and Path(settings).is_file():
        return digest_of(Path(settings))
    return settings
