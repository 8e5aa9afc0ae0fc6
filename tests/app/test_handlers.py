"""The page without a browser: what its handlers answer, and its server."""

import os
import socket
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
import torch
from clips import clip
from PIL import Image
from test_session import box, predictor

from eosvos.app.drawing import layer_of
from eosvos.app.handlers import Handlers
from eosvos.app.page import page, start
from eosvos.app.session import Session
from eosvos.app.sessions import Sessions
from eosvos.config.app import App
from eosvos.inference.propagate import DIVERGED


@pytest.fixture
def settings(tmp_path, monkeypatch) -> App:
    """Those of a page whose network is a small one."""
    monkeypatch.setattr("eosvos.app.sessions.Predictor.from_pretrained", lambda *_, **__: predictor())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return App(output=str(tmp_path / "run"), port=free.getsockname()[1])


TAB: Any = SimpleNamespace(session_hash="tab")
LENGTH = 20


@pytest.fixture
def handlers(settings) -> Handlers:
    return Handlers(Sessions(settings))


def chosen(handlers: Handlers, name: str = "a") -> Session:
    """The session of a tab where a video is chosen."""
    handlers.choose(str(clip(Path(handlers.sessions.settings.output) / f"{name}.mp4", length=LENGTH)), TAB)
    return handlers.sessions["tab"]


def drawing(*labels: torch.Tensor) -> Any:
    """What an editor has, a layer for each label map."""
    return {"background": None, "layers": [layer_of(one.numpy()) for one in labels], "composite": None}


def test_an_editor_that_was_left_alone_is_no_annotation_of_a_later_run(handlers):
    session = chosen(handlers)
    *_, done = handlers.run(2, False, 0, drawing(box(1)), TAB)
    assert f"Done: {LENGTH} of {LENGTH} frames" in done[0]
    old, shown = handlers.show(8, 0, drawing(box(1)), TAB)
    was = session.labels(8)
    running = handlers.run(1, False, shown, old, TAB)
    next(running)
    assert session.masks.keys() == {0}
    handlers.show(8, shown, old, TAB)
    list(running)
    assert session.masks.keys() == {0}
    assert session.done == LENGTH
    handlers.show(8, 0, drawing(box(1)), TAB)
    assert not torch.equal(was, session.labels(8)), "other steps, other labels"


def test_strokes_in_an_editor_of_an_earlier_run_are_taken_alone(handlers):
    session = chosen(handlers)
    list(handlers.run(2, False, 0, drawing(box(1)), TAB))
    old, _ = handlers.show(8, 0, drawing(box(1)), TAB)
    was = session.labels(8)
    list(handlers.run(1, False, 8, old, TAB))
    assert not torch.equal(was, session.labels(8)), "other steps, other labels"
    stroke = torch.where(was == 0, 2, 0).to(torch.uint8)
    other = stroke.where(torch.arange(stroke.shape[1]) % 2 == 0, 0) // 2 * 3
    assert other.any()
    list(handlers.run(1, False, 8, drawing(was, stroke), TAB))
    assert torch.equal(session.masks[8], stroke)
    upload = Path(handlers.sessions.settings.output) / "upload.png"
    Image.fromarray(other.numpy()).save(upload)
    handlers.upload([str(upload)], 8, drawing(was, stroke), TAB)
    assert torch.equal(session.masks[8], other.where(other > 0, stroke))


def until(running: Iterator[Any], stage: str) -> None:
    """Go on with a run until its view names a stage."""
    assert any(stage in answer[0] for answer in running)


def settings_of(widgets: Any) -> list[tuple[Any, Any]]:
    """What overlay and downloads show, and whether they can be seen or used."""
    made = [widget.constructor_args for widget in widgets]
    return [(one["value"], one["visible"] if "visible" in one else one["interactive"]) for one in made]


@pytest.mark.parametrize("stage", ["Fine-tuning", "Segmenting: 8 of", "Writing the overlay: 1 of"])
def test_another_video_is_not_shown_the_results_of_the_one_before(handlers, stage):
    session = chosen(handlers)
    running = handlers.run(2, False, 0, drawing(box(1)), TAB)
    until(running, stage)
    done = session.done
    chosen(handlers, "b")
    assert list(running) == []
    assert session.done <= done + 2, "the frames that it was at"
    assert not list(session.folder.glob("results-*/*"))


def test_overlay_and_downloads_go_with_their_video(handlers):
    session = chosen(handlers)
    *_, done = handlers.run(2, False, 0, drawing(box(1)), TAB)
    masks, overlay = map(str, session.results)
    assert settings_of(done[1:]) == [(overlay, True), (masks, True), (overlay, True)]
    for path in (str(session.video.path), None):
        assert settings_of(handlers.choose(path, TAB)[5:]) == [(None, False)] * 3


def test_a_run_that_is_stopped_while_results_are_written_has_none(handlers):
    chosen(handlers)
    running = handlers.run(2, False, 0, drawing(box(1)), TAB)
    until(running, "Writing the overlay: 1 of")
    handlers.stop(TAB)
    *_, last = running
    assert f"Stopped: {LENGTH} of {LENGTH} frames" in last[0]
    assert settings_of(last[1:]) == [(None, False)] * 3
    *_, last = handlers.run(2, False, 0, drawing(box(1)), TAB)
    assert f"Done: {LENGTH} of {LENGTH} frames" in last[0]


def test_fine_tuning_that_diverged_is_said_once_a_run(handlers, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda message, **_: said.append(message))
    session, learner = chosen(handlers), handlers.sessions.predictor.adapter
    adapt = learner.adapt

    def diverging(batches, start=None):
        adapted = deepcopy(adapt(batches, start=start))
        next(adapted.parameters()).data.fill_(torch.inf)
        return adapted

    monkeypatch.setattr(learner, "adapt", diverging)
    running = handlers.run(2, True, 0, drawing(box(1)), TAB)
    until(running, "Segmenting: 1 of")
    assert said == [DIVERGED]
    list(running)
    assert said == [DIVERGED]
    assert session.diverged > 1, "in online adaptations, too"
    list(handlers.run(2, True, 0, drawing(box(1)), TAB))
    assert said == [DIVERGED], "all was done"
    list(handlers.run(1, True, 0, drawing(box(1)), TAB))
    assert said == [DIVERGED] * 2
    monkeypatch.setattr(learner, "adapt", adapt)
    list(handlers.run(2, True, 0, drawing(box(1)), TAB))
    assert said == [DIVERGED] * 2


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::1]"])
def test_the_page_is_served_behind_a_proxy(settings, monkeypatch, host):
    if host == "[::1]":
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("needs IPv6, which is not here")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "one.example")
    monkeypatch.setenv("NO_PROXY", "other.example,10.0.0.1")
    start(settings.model_copy(update={"host": host}), block=False).close()
    given, own = {"one.example", "other.example", "10.0.0.1"}, {"localhost", "127.0.0.1", host.strip("[]")}
    for name in ("no_proxy", "NO_PROXY"):
        assert set(os.environ[name].split(",")) == given | own


@pytest.mark.parametrize(("steps", "most"), [(5, 100), (200, 200)])
def test_the_steps_of_the_checkpoint_can_be_chosen(settings, monkeypatch, steps, most):
    monkeypatch.setattr(
        "eosvos.app.sessions.Predictor.from_pretrained", lambda *_, **__: predictor(steps=steps)
    )
    blocks = page(Sessions(settings)).blocks.values()
    (slider,) = [one for one in blocks if isinstance(one, gr.Slider) and "Steps" in str(one.label)]
    assert (slider.value, slider.maximum) == (steps, most)
    assert slider.preprocess(steps) == steps
