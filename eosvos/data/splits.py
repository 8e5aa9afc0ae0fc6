"""The videos of the data sets: to train on, to select on, to validate and to test on."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from eosvos.config.build import build
from eosvos.config.data import PARTS, Folder
from eosvos.config.training import Config, FinalEval
from eosvos.data.sequence import VideoSequence, can_be_scored
from eosvos.data.task_source import TrainingSet, check_left_out, check_query_frames
from eosvos.errors import UserError

_log = logging.getLogger(__name__)

Videos = Mapping[str, list[VideoSequence]]
"""Videos by the name of their data set; "" is that of the only one."""


@dataclass(frozen=True)
class Splits:
    """The data sets to train on, and the videos to validate and to test on.

    selection: training videos on which the final evaluation selects the fixed learning rate.
    """

    train: list[TrainingSet]
    selection: list[VideoSequence]
    val: Videos
    test: Videos

    @property
    def folders(self) -> set[Path]:
        """The folders that all of them are read from; task sources are of procedural videos, without any."""
        train = (one.videos for one in self.train if isinstance(one.videos, list))
        entries = chain(self.selection, *train, *self.val.values(), *self.test.values())
        return {folder for entry in entries for folder in _video(entry).folders}


def list_videos(config: Config, training: bool = True) -> Splits:
    """List the videos, checked as far as lists, existence and headers go; takes no torch.

    Without `training` only the test videos are listed. Raises UserError.
    """
    _check_parts(config, training)
    if not training:
        return Splits(train=[], selection=[], val={}, test=_videos(config, "test"))
    train = training_sets(config)
    selection: list[VideoSequence] = []
    val, test = _videos(config, "val"), _videos(config, "test")
    if test:
        train, selection = split_selection(train, config.final_eval)
    videos = Splits(train, selection, val, test)
    if config.iterations:
        for name, validated in videos.val.items():
            if not any(map(can_be_scored, validated)):
                key = key_of(name, "val")
                raise UserError(
                    f"no video of {key} has a frame to score: give masks for more frames than the first and "
                    f"the last, or set {key} to videos that have them"
                )
        for one in videos.train:
            # Procedural videos are all alike.
            entries = one.videos if isinstance(one.videos, list) else [one.videos[0]]
            with _naming_setting(key_of(one.name)):
                check_left_out(one.videos, config.dataset)
                window = {"frame_window": one.window(config.dataset)}
                check_query_frames([*map(_video, entries)], config.dataset.model_copy(update=window))
    return videos


def _check_parts(config: Config, training: bool) -> None:
    """Raise UserError if no data set has videos for a part that needs some.

    Parent training alone does not validate, and is evaluated only where there are videos to do it on.
    """
    sources = config.dataset.sources
    for part in (PARTS if config.iterations else ("train",)) if training else ("test",):
        if all(getattr(source, part) is None for source in sources.values()):
            key = key_of("" if "" in sources else "NAME", part)
            raise UserError(
                f"no data set has videos for {part}: name some, '{key}={{_target_: {Folder.target}, ...}}', "
                "or add a data set that has them to dataset=mixture, +dataset@dataset.NAME=OPTION"
            )


def training_sets(config: Config) -> list[TrainingSet]:
    """The data sets to train on; raises UserError."""
    sources = config.dataset.sources
    return [
        TrainingSet(videos, sources[name].frame_window, sources[name].weight, name)
        for name, videos in _listed(config, "train").items()
    ]


def _videos(config: Config, part: str) -> Videos:
    """The videos of a part; raises UserError unless they are lists."""
    found = _listed(config, part)
    for name, videos in found.items():
        key = key_of(name, part)
        if not isinstance(videos, list) or not all(isinstance(one, VideoSequence) for one in videos):
            raise UserError(
                f"{key} must be a list of videos, not {type(videos).__name__}: procedural ones need a "
                f"number, {key}.num_videos"
            )
        if stills := [one for one in videos if one.still]:
            raise UserError(
                f"{key} holds still pictures ({len(stills)} of {len(videos)}), which have no later frame to "
                f"score: set {key} to videos"
            )
    return found


def _listed(config: Config, part: str) -> dict[str, Any]:
    """What the data sets have for a part; raises UserError."""
    found = {}
    for name, source in config.dataset.sources.items():
        node = getattr(source, part)
        if node is not None:
            with _naming_setting(key_of(name, part)):
                found[name] = build(node)
    return found


def key_of(name: str, part: str = "") -> str:
    """The key of a data set, or of a part of it."""
    return ".".join(filter(None, ["dataset", name, part]))


@contextmanager
def _naming_setting(key: str) -> Iterator[None]:
    """Let a UserError name the settings that it is about, as the command line does."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from error


def split_selection(
    train: Sequence[TrainingSet], final_eval: FinalEval
) -> tuple[list[TrainingSet], list[VideoSequence]]:
    """What to train on, and its first different videos, on which the fixed learning rate is selected.

    Data sets take turns in giving one. Still pictures and videos without a frame to score are not among
    these; where there is nothing else, a warning says so. With `exclude_from_training` lists lose the
    selected videos; other sources are of procedural videos, which training sees once. Raises UserError if
    nothing is left of a list.
    """
    found: dict[tuple[int, str], VideoSequence] = {}
    for number, entry in _in_turns([one.videos for one in train]):
        if len(found) == final_eval.selection_videos:
            break
        video = _video(entry)
        if can_be_scored(video):
            found.setdefault((number, video.name), video)
    selection = list(found.values())
    if final_eval.selection_videos and not selection:
        _log.warning(
            "no training video has a frame to score, so the final evaluation has no rows with a fixed "
            "learning rate (final_eval.selection_videos=0 silences this)"
        )
    if not final_eval.exclude_from_training:
        return list(train), selection
    rest = []
    for number, one in enumerate(train):
        if isinstance(one.videos, list):
            videos = [entry for entry in one.videos if (number, _video(entry).name) not in found]
            one = replace(one, videos=videos)
        if not len(one.videos):
            of_set = f" of {key_of(one.name, 'train')}" if one.name else ""
            raise UserError(
                f"final_eval.selection_videos={final_eval.selection_videos} leaves no video{of_set} to train "
                "on: ask for fewer, or set final_eval.exclude_from_training=false"
            )
        rest.append(one)
    return rest, selection


def _in_turns(lists: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """The first of each list, then the second of each, and so on, with the numbers of the lists."""
    turns = zip_longest(*(range(len(one)) for one in lists))
    return ((number, lists[number][i]) for turn in turns for number, i in enumerate(turn) if i is not None)


def _video(entry: Any) -> Any:
    return entry[0] if isinstance(entry, tuple) else entry
