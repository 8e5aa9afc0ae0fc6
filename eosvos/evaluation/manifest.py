"""What results are the results of, apart from the videos; two with the same manifest are the same."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eosvos.config.training import Config
from eosvos.digest import file_digest
from eosvos.evaluation.folders import results_folders
from eosvos.evaluation.provenance import versions
from eosvos.evaluation.results import ResultsFolder
from eosvos.meta.model import Model, without_weights
from eosvos.setup import device_for

LOCATIONS = {"root", "images", "video", "masks", "annotations"}
"""Settings of data sets that say where they lie."""


def open_results(config: Config, checkpoint: str | None, overwrite: bool) -> dict[str, ResultsFolder]:
    """The folders for masks and tables of the test videos, opened, by the name of the data set.

    checkpoint: the digest of the file that the network comes from, if any. Raises UserError if a folder holds
    the results of something else, unless these may be deleted.
    """
    folders = results_folders(config)
    for name, folder in folders.items():
        folder.open(manifest(config, checkpoint, name), overwrite)
    return folders


def manifest(config: Config, checkpoint: str | None, name: str = "") -> dict[str, Any]:
    """What makes the results on a data set, apart from the videos; the same wherever data and weights lie."""
    model = Model.of(config)
    # A checkpoint brings the weights, whatever files it once began with.
    settings = (without_weights(model) if checkpoint else model).model_dump()
    on_gpu = device_for(config.trainer.accelerator).type == "cuda"
    return {
        "eosvos": versions()["eosvos"],
        **({"matmul_precision": config.trainer.matmul_precision} if on_gpu else {}),
        "checkpoint": checkpoint,
        "model": settings if checkpoint else with_digests(settings),
        "data": without_locations(config.dataset.sources[name].test),
        # Results are the same, as many frames as are looked at together.
        "finetune": config.finetune.model_dump(exclude={"feature_batch_size"}),
        "seed": config.seed,
    }


def without_locations(videos: Mapping[str, Any] | None) -> dict[str, Any]:
    """What makes videos, wherever they lie."""
    return {key: value for key, value in (videos or {}).items() if key not in LOCATIONS}


def with_digests(settings: Any) -> Any:
    """Plain settings with the SHA-256 of each file that one names in the place of its name."""
    if isinstance(settings, dict):
        return {key: with_digests(value) for key, value in settings.items()}
    if isinstance(settings, list):
        return [with_digests(value) for value in settings]
    if isinstance(settings, str) and Path(settings).is_file():
        return file_digest(Path(settings)).hex()
    return settings
