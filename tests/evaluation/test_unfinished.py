"""A video whose segmentation is interrupted is gone on with: its files are those of an uninterrupted one."""

import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import clip, picture
from doubles import light_learner
from PIL import Image

from eosvos.config.data import Video
from eosvos.config.inference import Finetune, Online
from eosvos.data.sequence import VideoSequence
from eosvos.data.video import video_sequences
from eosvos.errors import Interrupted, UserError
from eosvos.evaluation import unfinished
from eosvos.evaluation.results import ResultsFolder
from eosvos.evaluation.scoring import fill_folder
from eosvos.inference.predictor import Predictor

LENGTH, SECOND = 12, 4
ONLINE = Online(every=3, steps=1, batch_size=2, reset="current")
FINETUNE = Finetune(steps=3, batch_size=2, feature_batch_size=2, online=ONLINE)
STATE = "clip.state.pt"
SIGNAL = Interrupted(signal.SIGTERM, "stopped")


@pytest.fixture
def video(tmp_path) -> VideoSequence:
    """A clip with masks of all frames to score: of its corner, and from one frame on of its block."""
    (tmp_path / "masks").mkdir()
    for t in range(LENGTH):
        labels = (picture(t)[..., 0] > 140) + 2 * (picture(t)[..., 2] > 140) * (t >= SECOND)
        Image.fromarray(labels.astype(np.uint8)).save(tmp_path / f"masks/{t}.png")
    path = clip(tmp_path / "clip.mp4", length=LENGTH)
    (sequence,) = video_sequences(Video(video=str(path), masks=str(tmp_path / "masks")))
    return sequence


@pytest.fixture
def always(monkeypatch) -> None:
    """The state is saved as often as it can be."""
    monkeypatch.setattr(unfinished, "SECONDS", 0.0)
    monkeypatch.setattr(unfinished, "SHARE", 0)


def fill(
    root: Path,
    video: VideoSequence,
    kind: str = "png",
    at: int | None = None,
    error: BaseException = SIGNAL,
) -> list[int]:
    """Segment into a folder, up to an error after `at` frames; returns the steps of each adaptation."""
    learner, steps = light_learner(), []
    adapt = learner.adapt
    learner.adapt = lambda batches, start=None: adapt(noted(batches, steps), start)
    folder = ResultsFolder(root, "all", kind)
    folder.open({"seed": 1})

    def watch(_: VideoSequence, frames: Iterable[Any]) -> Iterator[Any]:
        for t, frame in enumerate(frames):
            if t == at:
                raise error
            yield frame

    fill_folder(folder, Predictor(learner, FINETUNE), [video], watch=watch)
    return steps


def noted(batches: Iterable[Any], steps: list[int]) -> Iterator[Any]:
    steps.append(0)
    for batch in batches:
        steps[-1] += 1
        yield batch


def interrupt(
    root: Path, video: VideoSequence, at: int, kind: str = "png", error: BaseException = SIGNAL
) -> None:
    with pytest.raises(type(error)):
        fill(root, video, kind, at, error)


def files(root: Path) -> dict[str, bytes]:
    """The files but the record, which has seconds."""
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.*")}
    return {name: content for name, content in found.items() if not name.endswith(".record.json")}


@pytest.mark.parametrize("kind", ["both", "cutout"])
def test_going_on_makes_the_files_of_an_uninterrupted_run(tmp_path, video, always, capsys, kind):
    whole, out = tmp_path / "whole", tmp_path / "out"
    every = fill(whole, video, kind)
    assert (every[0], every[-1]) == (FINETUNE.steps, ONLINE.steps)
    assert any(name.endswith(".csv") for name in files(whole))
    assert len({content for name, content in files(whole).items() if name.startswith("clip/")}) > LENGTH // 2
    assert capsys.readouterr().out == ""
    interrupt(out, video, 3, kind)
    assert capsys.readouterr().out == ""
    interrupt(out, video, 9, kind, RuntimeError("after which nothing is saved, as after a kill"))
    interrupt(out, video, 2, kind)
    rest = fill(out, video, kind)
    assert files(out) == files(whole)
    # Frames 8 and 9 are segmented together: there is no state between them.
    said = capsys.readouterr().out.splitlines()
    assert said == [f"clip: goes on at frame {t} of {LENGTH}" for t in (3, 8, 8)]
    # Those of no step make the networks that the weights are loaded into.
    assert [steps for steps in rest if steps] == every[-sum(map(bool, rest)) :]
    assert not any(steps == FINETUNE.steps for steps in rest)


def test_what_is_there_is_gone_on_with_only_if_it_is_as_it_was_left(tmp_path, video, capsys):
    interrupt(tmp_path, video, 6)
    state, mask = tmp_path / STATE, tmp_path / "clip/00002.png"
    saved, shown = state.read_bytes(), mask.read_bytes()
    torch.save({"video": Path("a file that could run code")}, state)
    for content in (state.read_bytes(), saved[:1000], b""):
        state.write_bytes(content)
        with pytest.raises(UserError, match=r"clip\.state\.pt is no state of clip .*, delete it .*: it "):
            fill(tmp_path, video)
    torch.save({"video": {"size": None}}, state)
    with pytest.raises(UserError, match=r"clip\.state\.pt is no state .* anew: it is of something else$"):
        fill(tmp_path, video)
    state.write_bytes(saved)
    mask.write_bytes((tmp_path / "clip/00003.png").read_bytes())
    with pytest.raises(UserError, match="clip: masks were changed after they were written: move them away"):
        fill(tmp_path, video)
    assert mask.read_bytes() != shown
    assert capsys.readouterr().out.count("goes on at frame 5") == 1
    mask.unlink()
    interrupt(tmp_path, video, 6)
    assert mask.read_bytes() == shown
    single = Video(video=str(tmp_path / "clip.mp4"), masks=str(tmp_path / "masks/0.png"))
    steps = fill(tmp_path, *video_sequences(single))
    assert steps.count(FINETUNE.steps) == 1, "another video: from the start"
    assert capsys.readouterr().out == ""
    assert not state.exists()


def test_saving_takes_a_twentieth_of_the_time_at_most_and_none_of_a_short_video(tmp_path, video, monkeypatch):
    now, saved, save, write = [0.0], [], unfinished.save_whole, ResultsFolder.write_frame

    def slow_save(path: Path, state: Any) -> None:
        save(path, state)
        now[0] += 2
        saved.append(now[0])

    def slow_write(*arguments: Any) -> None:
        write(*arguments)
        now[0] += pace

    monkeypatch.setattr(unfinished.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(unfinished, "save_whole", slow_save)
    monkeypatch.setattr(ResultsFolder, "write_frame", slow_write)
    pace = 9 / LENGTH
    fill(tmp_path / "short", video)
    assert saved == []
    now[0], pace = 0.0, 9.0
    fill(tmp_path / "long", video)
    first, second = saved
    assert first >= 10
    assert second - first >= 40
