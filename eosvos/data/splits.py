"""The videos of a data set: to train on, to select on, to validate and to test on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eosvos.config.build import build
from eosvos.config.training import Config, FinalEval
from eosvos.data.sequence import VideoSequence
from eosvos.data.task_source import check_query_frames
from eosvos.errors import UserError


@dataclass(frozen=True)
class Splits:
    """Lists of sequences, but `train` may be a source of tasks.

    selection: training videos on which the final evaluation selects the fixed learning rate.
    """

    train: Any
    selection: list[Any]
    val: list[Any]
    test: list[Any]

    def __post_init__(self) -> None:
        """Raise UserError unless the videos to validate and to test on are lists."""
        for part in ("val", "test"):
            videos = getattr(self, part)
            if not isinstance(videos, list) or not all(isinstance(one, VideoSequence) for one in videos):
                raise UserError(
                    f"dataset.{part} must be a list of videos, not {type(videos).__name__}: procedural ones "
                    f"need a number, dataset.{part}.num_videos"
                )

    @property
    def folders(self) -> set[Path]:
        """The folders that all of them are read from; task sources are of procedural videos, without any."""
        train = self.train if isinstance(self.train, list) else []
        videos = [*map(_video, train), *self.selection, *self.val, *self.test]
        return {folder for video in videos for folder in video.folders}


def list_videos(config: Config, training: bool = True) -> Splits:
    """List the videos, checked as far as lists, existence and headers go; takes no torch.

    Without `training` only the test videos are listed. Raises UserError.
    """
    if not training:
        return Splits(train=[], selection=[], val=[], test=_listed(config, "test"))
    train, val, test = (_listed(config, part) for part in ("train", "val", "test"))
    videos = Splits(*split_selection(train, config.final_eval), val, test)
    if config.iterations:
        if not any(len(video.annotated_frames) > 1 for video in val):
            raise UserError(
                "no video of dataset.val has a frame to score: give masks for more frames than the first, or "
                "set dataset.val to videos that have them"
            )
        # Procedural videos are all alike.
        entries = videos.train if isinstance(videos.train, list) else [videos.train[0]]
        with _about("dataset"):
            check_query_frames([*map(_video, entries)], config.dataset)
    return videos


def _listed(config: Config, part: str) -> Any:
    with _about(f"dataset.{part}"):
        return build(getattr(config.dataset, part))


@contextmanager
def _about(key: str) -> Iterator[None]:
    """Let a UserError name the settings that it is about, as the command line does."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from error


def split_selection(train: Any, final_eval: FinalEval) -> tuple[Any, list[Any]]:
    """What to train on, and its first different videos, on which the fixed learning rate is selected.

    train: a list of videos, or a source of (video, object) pairs. With `exclude_from_training` a list loses
    the selected videos; other sources are of procedural videos, which training sees once. Raises UserError if
    nothing is left.
    """
    found: dict[str, Any] = {}
    for i in range(len(train)):
        if len(found) == final_eval.selection_videos:
            break
        video = _video(train[i])
        found.setdefault(video.name, video)
    selection = list(found.values())
    if not final_eval.exclude_from_training or not isinstance(train, list):
        return train, selection
    rest = [entry for entry in train if _video(entry).name not in found]
    if not rest:
        raise UserError(
            f"final_eval.selection_videos={final_eval.selection_videos} leaves no video to train on: ask for "
            "fewer, or set final_eval.exclude_from_training=false"
        )
    return rest, selection


def _video(entry: Any) -> Any:
    return entry[0] if isinstance(entry, tuple) else entry
