"""Sessions of the page, without a page: runs that are stopped, corrected and gone on with, files, limits."""

import errno
import tracemalloc
from pathlib import Path
from threading import Lock
from zipfile import ZipFile

import av
import numpy as np
import pytest
import torch
from clips import SIZE, clip
from doubles import light_learner
from PIL import Image

from eosvos.app.drawing import brush_colours, labels_of, layer_of
from eosvos.app.session import Session
from eosvos.app.sessions import Sessions
from eosvos.app.uploads import uploaded_masks, uploaded_video
from eosvos.config.app import App
from eosvos.config.inference import Finetune, Online
from eosvos.data.video import VideoFile
from eosvos.errors import UserError
from eosvos.inference.predictor import Predictor


def predictor(every: int | None = None, steps: int = 2) -> Predictor:
    learner = light_learner()
    online = Online(every=every, steps=1, batch_size=2)
    return Predictor(learner, Finetune(steps=steps, batch_size=2, online=online), seed=3)


def session(tmp_path: Path, length: int = 20) -> Session:
    path = clip(tmp_path / "clip.mp4", length=length)
    return Session(VideoFile("clip", path, {}), tmp_path / "session", Lock())


def box(object_id: int, column: int = 0, row: int = 24) -> torch.Tensor:
    mask = torch.zeros(SIZE, dtype=torch.uint8)
    mask[row : row + 16, column : column + 8] = object_id
    return mask


def expected(made: Session, by: Predictor) -> list[torch.Tensor]:
    """The label maps of one run with all the masks, from the start."""
    frames = [(made.video.image(t), made.masks.get(t)) for t in range(made.video.num_frames)]
    return list(by.video("clip").steps(frames))


def labels(made: Session) -> list[torch.Tensor]:
    assert made.done == made.video.num_frames
    return [made.labels(t) for t in range(made.done)]


def same(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> bool:
    return len(found) == len(wanted) and all(map(torch.equal, found, wanted))


@pytest.mark.parametrize("every", [None, 3])
def test_a_run_that_was_stopped_and_corrected_is_one_with_all_masks(tmp_path, every):
    made, by = session(tmp_path), predictor(every)
    made.draw(0, box(1))
    for progress in made.run(by):
        if progress.done >= 12:
            made.stop()
    assert 12 <= made.done < 20
    assert {i for t in range(made.done) for i in made.labels(t).unique().tolist()} == {0, 1}
    before = expected(made, by)
    assert same([made.labels(t) for t in range(made.done)], before[: made.done])
    shown = made.labels(7)
    made.draw(7, shown)
    assert made.masks.keys() == {0}, "nothing was changed"
    corrected = box(1, 30).where(box(1, 30) > 0, box(2, 0, 0))
    made.draw(7, corrected)
    assert made.masks.keys() == {0, 7}
    assert torch.equal(made.labels(7), corrected)
    begun = [progress.done for progress in made.run(by)]
    assert begun[0] == 6, "from the state that was kept before frame 7"
    assert same(labels(made), expected(made, by))
    assert not same(labels(made), before)
    assert [progress.done for progress in made.run(by)] == [20], "all is done"
    list(made.run(predictor(every, steps=1)))
    assert same(labels(made), expected(made, predictor(every, steps=1))), "other settings: from the start"


def test_masks_are_the_objects_that_are_drawn_anew(tmp_path):
    made = session(tmp_path, 4)
    with pytest.raises(UserError, match=r"^no object is drawn: "):
        next(made.run(predictor()))
    made.draw(2, box(1))
    made.draw(2, box(1) + box(3, 20))
    assert made.masks[2].unique().tolist() == [0, 1, 3]
    made.draw(2, box(3, 20))
    assert torch.equal(made.masks[2], box(3, 20))
    made.draw(2, torch.zeros_like(box(1)))
    assert not made.masks
    made.draw(1, box(1))
    list(made.run(predictor()))
    shown = made.labels(3)
    made.draw(3, box(2, 40).where(box(2, 40) > 0, shown))
    overlapped = bool(((box(2, 40) > 0) & (shown == 1)).any())
    assert made.masks[3].unique().tolist() == ([0, 1, 2] if overlapped else [0, 2])


def test_a_run_that_goes_on_is_not_drawn_on_or_started_again_and_ends_when_it_is_closed(tmp_path):
    made, by = session(tmp_path), predictor()
    made.draw(0, box(1))
    running = made.run(by)
    next(running)
    with pytest.raises(UserError, match=r"^frame 3 cannot be drawn on while .*: stop first$"):
        made.draw(3, box(2))
    made.draw(0, box(1))
    with pytest.raises(UserError, match=r"is being segmented or written already: stop first$"):
        next(made.run(by))
    made.close()
    assert len(list(running)) <= 1
    assert made.done < 20
    abandoned = made.run(by)
    next(abandoned)
    abandoned.close()
    made.draw(3, box(2))


def test_however_often_it_is_stopped_few_states_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("eosvos.app.session.STATES", 1)
    made, by, starts = session(tmp_path, 60), predictor(None), []
    made.draw(0, box(1))
    while made.done < 60:
        done = made.done
        for progress in made.run(by):
            if progress.done > done:
                made.stop()
        starts.append(done)
        assert len(made._states) <= 1 + 1
    assert len(starts) > 5
    assert same(labels(made), expected(made, by))


@pytest.mark.parametrize("every", [None, 3])
def test_stop_ends_fine_tuning_within_a_step(tmp_path, every):
    made, by, taken = session(tmp_path, 12), predictor(every, steps=6), []
    adapt = by.adapter.adapt

    def stopped_at_the_fourth(batches, start=None):
        def noted():
            for batch in batches:
                taken.append(made.done)
                if len(taken) == 4:
                    made.stop()
                yield batch

        return adapt(noted(), start=start)

    made.draw(0, box(1))
    by.adapter.adapt = stopped_at_the_fourth
    assert [(progress.stage, progress.done) for progress in made.run(by)] == [
        ("Fine-tuning", 0),
        ("Segmenting", 0),
    ]
    assert taken == [0] * 4
    by.adapter.adapt = adapt
    for progress in made.run(by):
        if progress.done:
            made.stop()
    done = made.done
    assert 0 < done < 12
    made.draw(done, box(2, 0, 0))
    by.adapter.adapt = stopped_at_the_fourth
    taken.clear()
    list(made.run(by))
    assert (made.done, taken[-3:]) == (done, [done] * 3)
    by.adapter.adapt = adapt
    list(made.run(by))
    assert same(labels(made), expected(made, by))


def test_what_was_kept_of_other_masks_is_not_gone_on_from(tmp_path):
    made, by = session(tmp_path), predictor()
    made.draw(0, box(1))
    adapt = by.adapter.adapt

    def adapt_and_stop(batches, start=None):
        adapted = adapt(batches, start=start)
        made.stop()
        return adapted

    by.adapter.adapt = adapt_and_stop
    list(made.run(by))
    by.adapter.adapt = adapt
    assert made.done == 1
    made.draw(0, box(1, 30))
    list(made.run(by))
    made.draw(1, box(2, 0, 0).where(box(2, 0, 0) > 0, made.labels(1)))
    list(made.run(by))
    assert same(labels(made), expected(made, by))


def test_results_are_the_masks_and_the_overlay_of_what_is_done(tmp_path):
    made = session(tmp_path)
    made.draw(0, box(1))
    for progress in made.run(predictor()):
        if progress.done >= 8:
            made.stop()
    for done in (made.done, 20):
        list(made.write_results())
        masks, overlay = made.results
        with ZipFile(masks) as archive:
            assert archive.namelist() == [f"clip/{t:05d}.png" for t in range(done)]
            with archive.open("clip/00005.png") as file, Image.open(file) as image:
                assert (image.mode, image.size) == ("P", SIZE[::-1])
                assert np.array_equal(np.asarray(image), made.labels(5).numpy())
        with av.open(str(overlay)) as container:
            assert len(list(container.decode(video=0))) == done
        list(made.run(predictor()))
    assert len(list(made.folder.glob("results-*"))) == 1


def test_while_results_are_written_nothing_is_drawn_and_stop_leaves_the_old_ones(tmp_path):
    made, by = session(tmp_path), predictor()
    made.draw(0, box(1))
    list(made.run(by))
    list(made.write_results())
    old = made.results
    writing = made.write_results()
    assert next(writing).total == 20
    with pytest.raises(UserError, match=r"^frame 3 cannot be drawn on while .*: stop first$"):
        made.draw(3, box(2))
    with pytest.raises(UserError, match=r"is being segmented or written already: stop first$"):
        next(made.run(by))
    assert made.done == 20
    made.stop()
    assert list(writing) == []
    assert made.results is None
    assert sorted(made.folder.glob("results-*/*")) == sorted(old)
    list(made.write_results())
    assert sorted(made.folder.glob("results-*/*")) == sorted(made.results)
    assert made.results != old


def test_on_a_full_disk_the_old_results_are_still_there(tmp_path, monkeypatch):
    made = session(tmp_path)
    made.draw(0, box(1))
    list(made.run(predictor()))
    list(made.write_results())
    old = made.results

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr("eosvos.app.session.ZipFile", full)
        for _ in range(2):
            with pytest.raises(
                UserError, match=r"clip\.masks\.zip cannot be written .*: make room on its disk"
            ):
                list(made.write_results())
    assert all(path.is_file() for path in old)
    list(made.write_results())
    assert sorted(made.folder.glob("results-*/*")) == sorted(made.results)


def test_what_is_closed_does_no_more(tmp_path):
    made, by = session(tmp_path), predictor()
    made.draw(0, box(1))
    made.close()
    list(made.run(by))
    assert made.done == 0
    made = session(tmp_path)
    made.draw(0, box(1))
    list(made.run(by))
    made.close()
    list(made.write_results())
    assert not list(made.folder.glob("results-*/*"))


def test_layers_are_read_as_they_are_drawn():
    labels = (box(1) + box(3, 20) + box(7, 40)).numpy()
    layer = layer_of(labels)
    assert brush_colours()[:3] == ["#800000", "#008000", "#808000"]
    assert np.array_equal(labels_of([layer], SIZE), labels)
    # A soft edge between objects 1 and 2 passes through colours that are close to that of object 3.
    mixed = layer_of((box(1) + box(2, 8)).numpy())
    mixed[24:40, 7, :3] = 72, 56, 0
    assert set(np.unique(labels_of([mixed], SIZE))) == {0, 1, 2}
    translucent = layer.copy()
    translucent[..., 3] //= 3
    assert not labels_of([translucent], SIZE).any()
    far = box(200).numpy()
    assert np.array_equal(labels_of([layer_of(far)], SIZE, [200]), far)
    assert not labels_of([], SIZE).any()


def test_a_large_frame_is_read_in_little_memory():
    size = 1080, 1920
    layer = layer_of(np.full(size, 3, np.uint8))
    tracemalloc.start()
    try:
        found = labels_of([layer], size)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found == 3).all()
    assert peak < 64 * found.size, "bytes for each pixel"


# ---------------------------------------------------------------- uploads


@pytest.fixture
def settings(tmp_path) -> App:
    return App(output=str(tmp_path / "run"), max_frames=12, max_side=64)


def test_files_that_are_refused_are_named_in_one_sentence(tmp_path, settings):
    run = tmp_path / "run"
    outside = clip(tmp_path / "outside.mp4")
    (run / "text.mp4").parent.mkdir()
    (run / "text.mp4").write_text("not a video")
    (run / "link.mp4").symlink_to(outside)
    for path, limits, said in (
        (run / "text.mp4", {}, r"^text\.mp4 is no video that can be read"),
        (outside, {}, r"^outside\.mp4 was not uploaded to this page"),
        (run / "../outside.mp4", {}, r"^outside\.mp4 was not uploaded to this page"),
        (run / "link.mp4", {}, r"^link\.mp4 was not uploaded to this page"),
        (clip(run / "a.mp4", length=13), {}, r"^a\.mp4 has 13 frames, and max_frames=12 is the limit"),
        (run / "a.mp4", {"max_side": 63}, r"^a\.mp4 has 64x48 pixels, and max_side=63 is the limit"),
    ):
        with pytest.raises(UserError, match=said) as error:
            uploaded_video(path, settings.model_copy(update=limits))
        assert str(tmp_path) not in str(error.value)
        assert "\n" not in str(error.value)
    with open(run / "large.mp4", "wb") as file:
        file.truncate(1_001_000_000)
    with pytest.raises(UserError, match=r"^large\.mp4 has 1001 megabytes, and max_megabytes=1000 is the"):
        uploaded_video(run / "large.mp4", settings)


def test_what_is_left_of_a_file_that_is_cut_off_is_read(tmp_path, settings):
    path = clip(tmp_path / "run/a.mp4", options={"movflags": "faststart"})
    assert uploaded_video(path, settings).defect is None
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.9)])
    video = uploaded_video(path, settings)
    assert 0 < video.num_frames < 12
    assert f"a.mp4 is broken or cut off: only the {video.num_frames} frames before" in str(video.defect)


def test_masks_are_uploaded_as_ids_or_one_white_object_a_file(tmp_path, settings):
    run, video = tmp_path / "run", uploaded_video(clip(tmp_path / "run/a.mp4"), settings)
    for name, mask in {"ids": box(9), "first": box(255), "second": box(255, 4), "small": box(1)[:8]}.items():
        Image.fromarray(mask.numpy()).save(run / f"{name}.png")

    def masks(*names: str) -> torch.Tensor:
        return uploaded_masks([run / f"{name}.png" for name in names], 5, video, settings)

    assert torch.equal(masks("ids"), box(9))
    both = masks("first", "second")
    assert both[30, [0, 6, 10, 20]].tolist() == [1, 2, 2, 0]
    with pytest.raises(UserError, match=r"^small\.png is 64x8, but a\.mp4 is 64x48"):
        masks("small")
    with pytest.raises(UserError, match=r"^a\.mp4 cannot be read as an image"):
        uploaded_masks([run / "a.mp4"], 0, video, settings)


def test_each_tab_has_a_session_of_its_own(tmp_path, settings):
    clip(tmp_path / "run/a.mp4")
    (tmp_path / "run/text.mp4").write_text("not a video")
    sessions = Sessions(settings)
    with pytest.raises(UserError, match=r"^there is no video yet: "):
        sessions["one"]
    one, two = (sessions.open(key, tmp_path / "run/a.mp4") for key in ("one", "two"))
    assert one.folder != two.folder
    assert {one.folder.parent, two.folder.parent} == {tmp_path / "run"}
    one.draw(0, box(1))
    two.draw(0, box(2))
    running = one.run(sessions.adapted(0, None)), two.run(sessions.adapted(0, None))
    next(running[0]), next(running[1])
    with pytest.raises(UserError, match=r"^text\.mp4 is no video"):
        sessions.open("one", tmp_path / "run/text.mp4")
    assert sessions["one"] is one
    sessions.close("one")
    list(running[0]), list(running[1])
    assert one.done < 12 == two.done
    assert two.labels(0).unique().tolist() == [0, 2]
    assert (sessions.adapted(7, 3).finetune.steps, sessions.adapted(7, 3).finetune.online.every) == (7, 3)
    sessions.close("nobody")
