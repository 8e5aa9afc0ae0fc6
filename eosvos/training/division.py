"""What is said and kept of videos that a run itself divides into train, val and test."""

from pathlib import Path

from eosvos.config.components import settings_of
from eosvos.config.data import PARTS, Folder
from eosvos.config.training import Config
from eosvos.console import say
from eosvos.data.folder import division
from eosvos.data.split_file import write_split
from eosvos.data.splits import Splits, key_of
from eosvos.writing import remove


def keep_divisions(config: Config, videos: Splits) -> None:
    """Say how the videos of each data set were divided by `divide`, and write it into the run's folder, in a
    file that `split_file` reads.
    """
    for name, source in config.dataset.sources.items():
        settings = settings_of(source.train) if source.train else None
        if not isinstance(settings, Folder) or not settings.is_divided:
            continue
        parts = division(settings)
        path = Path(config.output) / ("-".join(filter(None, ["split", name])) + ".json")
        if parts["train"] == parts["test"]:
            say(_in_time(name, videos))
        else:
            # One of an older run in this folder may be of other videos.
            remove([path])
            write_split(path, parts, {"divide": settings.divide, "seed": settings.divide_seed})
            counts = ", ".join(f"{len(parts[part])} {part}" for part in PARTS)
            say(f"The videos of {key_of(name)} are divided at random ({counts}): {path}")


def _in_time(name: str, videos: Splits) -> str:
    """Say where the parts of a single video begin."""
    begins = [
        f"{part} begins with frame {of_part[name][0].frame_names[0]}"
        for part, of_part in (("val", videos.val), ("test", videos.test))
        if name in of_part
    ]
    return (
        f"{key_of(name)} has one video, which is divided in time ({', '.join(begins)}): figures on what "
        "comes later in a video that was trained on say little about other videos"
    )
