"""What the page's events do: from the values of widgets to those of widgets, for the tab that asks."""

import base64
import io
from collections.abc import Callable, Iterator
from functools import wraps
from html import escape
from inspect import isgeneratorfunction
from pathlib import Path
from typing import Any, Literal

import gradio as gr
import numpy as np
import torch
from gradio.components.image_editor import EditorValue
from PIL import Image

from eosvos.app.drawing import brush_colours, labels_of, layer_of
from eosvos.app.session import Progress, Session
from eosvos.app.sessions import Sessions
from eosvos.app.uploads import uploaded_masks
from eosvos.data.sequence import visible_objects
from eosvos.errors import UserError
from eosvos.evaluation.overlay import blend
from eosvos.inference.predictor import Predictor
from eosvos.inference.propagate import DIVERGED

ONLINE_EVERY = 5
"""Frames between two online adaptations, where the checkpoint does not say."""
SHOWN_SIDE = 960
"""Longest side of the picture that shows how far a run is, pixels."""


def _in_a_box(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Let the page show a UserError of the handler as its sentence."""

    @wraps(handler)
    def answer(*values: Any) -> Any:
        try:
            return handler(*values)
        except UserError as error:
            raise gr.Error(escape(str(error)), print_exception=False) from error

    @wraps(handler)
    def answers(*values: Any) -> Iterator[Any]:
        try:
            yield from handler(*values)
        except UserError as error:
            raise gr.Error(escape(str(error)), print_exception=False) from error

    return answers if isgeneratorfunction(handler) else answer


class Handlers:
    """The handlers of a page, which keep nothing but the sessions.

    `shown` is the frame that the editor shows, and comes from the browser with what is drawn there.
    """

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions

    @_in_a_box
    def choose(self, path: str | None, request: gr.Request) -> tuple[Any, ...]:
        """Begin with a video: what is said of it, the slider, the editor, the frame shown, and an empty view,
        overlay and downloads.
        """
        if path is None:
            self.sessions.close(str(request.session_hash))
            return "", gr.Slider(value=0, interactive=False), None, 0, "", *_downloads(None)
        session = self.sessions.open(str(request.session_hash), Path(path))
        video = session.video
        height, width = video.size
        said = f"{escape(Path(path).name)}: {video.num_frames} frames of {width}x{height} pixels"
        if video.defect:
            gr.Warning(escape(video.defect.replace(path, Path(path).name)))
            said += ", up to where the file breaks off"
        slider = gr.Slider(value=0, maximum=max(1, video.num_frames - 1), interactive=True)
        editor = gr.ImageEditor(_canvas(session, 0), brush=brush(max(1, min(video.size) // 30)))
        return said, slider, editor, 0, "", *_downloads(None)

    @_in_a_box
    def show(self, t: int, shown: int, drawing: EditorValue | None, request: gr.Request) -> tuple[Any, ...]:
        """Take what is drawn, and show another frame: the editor, the frame shown."""
        session = self.sessions[str(request.session_hash)]
        _take(session, shown, drawing)
        t = min(int(t), session.video.num_frames - 1)
        return _canvas(session, t), t

    @_in_a_box
    def upload(
        self, paths: list[str] | None, shown: int, drawing: EditorValue, request: gr.Request
    ) -> EditorValue:
        """Lay uploaded masks over what is drawn: the editor."""
        session = self.sessions[str(request.session_hash)]
        _take(session, shown, drawing)
        files = [Path(path) for path in paths or []]
        mask = uploaded_masks(files, shown, session.video, self.sessions.settings)
        labels = session.drawn_on(shown)
        session.draw(shown, mask.where(mask > 0, labels.where(~torch.isin(labels, mask), 0)))
        return _canvas(session, shown)

    @_in_a_box
    def run(
        self, steps: int, online: bool, shown: int, drawing: EditorValue | None, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        """Take what is drawn, and segment: the view as it grows, at last overlay and downloads."""
        session = self.sessions[str(request.session_hash)]
        _take(session, shown, drawing)
        every = self.sessions.predictor.finetune.online.every or ONLINE_EVERY
        predictor = self.sessions.adapted(int(steps), every if online else None)
        for answer in _segmented(session, predictor):
            # Where another video has been chosen, the widgets are that one's.
            if session.closed:
                return
            yield answer

    @_in_a_box
    def stop(self, request: gr.Request) -> None:
        """End the run of the tab after the frames, or the step of fine-tuning, that it is at."""
        self.sessions[str(request.session_hash)].stop()

    def leave(self, request: gr.Request) -> None:
        """End all that a tab does that is closed."""
        self.sessions.close(str(request.session_hash))


def brush(radius: int | Literal["auto"] = "auto") -> gr.Brush:
    """What objects are drawn with: a colour for each; radius: in pixels of the video."""
    return gr.Brush(default_size=radius, colors=[*brush_colours()], color_mode="fixed")


def _canvas(session: Session, t: int) -> EditorValue:
    """Frame t in the editor, with its label map as a layer to draw on."""
    return {
        "background": session.picture(t),
        "layers": [layer_of(session.canvas(t).numpy())],
        "composite": None,
    }


def _take(session: Session, shown: int, drawing: EditorValue | None) -> None:
    """Take what is drawn on a frame as its masks.

    None is what an editor still shows of an earlier frame or run.
    """
    given = session.given.get(shown)
    if given is None or drawing is None or not drawing["layers"]:
        return
    size, known = session.video.size, visible_objects(given)
    layers = [_fitted(np.asarray(layer), size) for layer in drawing["layers"]]
    session.draw(shown, torch.from_numpy(labels_of(layers, size, known)))


def _segmented(session: Session, predictor: Predictor) -> Iterator[tuple[Any, ...]]:
    """Segment, and write the results: the view as it grows, at last overlay and downloads."""
    kept, total, told = [gr.skip()] * 3, session.video.num_frames, False
    for progress in session.run(predictor):
        # Once a run, for each online adaptation may diverge; it stays until it is read.
        if session.diverged and not told:
            told = True
            gr.Warning(escape(DIVERGED), duration=None)
        yield _view(progress, _overlay(session, progress.done - 1)), *kept
    last, done = _overlay(session, session.done - 1), 0
    for progress in session.write_results():
        yield _view(progress, last), *kept
        done = progress.total
    stage = "Done" if session.results and done == total else "Stopped"
    yield _view(Progress(stage, done, total), last), *_downloads(session.results)


def _downloads(results: tuple[Path, Path] | None) -> tuple[Any, ...]:
    """The overlay, and the buttons that download the masks and it; of no results, none."""
    masks, overlay = map(str, results) if results else (None, None)
    return (
        gr.Video(value=overlay, visible=results is not None),
        gr.DownloadButton(value=masks, interactive=results is not None),
        gr.DownloadButton(value=overlay, interactive=results is not None),
    )


def _fitted(layer: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A layer uint8 [h, w, 4] in the size of the video."""
    image = Image.fromarray(layer).convert("RGBA")
    return np.asarray(image.resize(size[::-1], Image.Resampling.NEAREST))


def _overlay(session: Session, t: int) -> str:
    """A frame with its label map laid over it, as an HTML picture; none before the first."""
    if t < 0:
        return ""
    image = Image.fromarray(blend(session.picture(t), session.labels(t).numpy()))
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    source = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="frame {t}" src="data:image/jpeg;base64,{source}">'


def _view(progress: Progress, picture: str) -> str:
    """How far a run is, above the last frame that is done."""
    said = f"{progress.stage}: {progress.done} of {progress.total} frames"
    if progress.rate:
        left = (progress.total - progress.done) / progress.rate
        said += f", {progress.rate:.1f} a second, {left:.0f} s left"
    bar = f'<progress max="{progress.total}" value="{progress.done}"></progress>'
    return f'<div class="run">{bar}<div>{said}</div>{picture}</div>'
