"""The page in a real browser: draw, run, correct, download; files that are refused; a tab that is closed.

With EOSVOS_PICTURES=docs/images, the pictures of docs/app.md are made anew, of a dog, with checkpoint=small.
"""

import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from zipfile import ZipFile

import av
import httpx
import numpy as np
import pytest
import torch
from clips import clip
from helpers import ROOT
from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright
from test_session import predictor

from eosvos.app.page import start
from eosvos.app.sessions import Sessions
from eosvos.config.app import App
from eosvos.config.data import Davis, Synthetic
from eosvos.data.davis import davis_sequences
from eosvos.data.synthetic import SyntheticVideo
from eosvos.models.segmenter import Batch

PATIENCE = 600_000
"""Milliseconds, on however busy a machine."""
PICTURES = os.environ.get("EOSVOS_PICTURES")
NAME, LENGTH = "shapes" if PICTURES is None else "dog", 12
DOG = Davis(root=str(ROOT.parent / "shared/davis2016"), year="2016", sequences=["dog"])
SHAPES = Synthetic(size=[144, 192], num_frames=LENGTH, max_objects=1)
SUBJECT = SyntheticVideo(1_000_004, SHAPES) if PICTURES is None else davis_sequences(DOG)[0]


@pytest.fixture
def browser() -> Iterator[Page]:
    """A tab, which may reach this machine alone."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium, which is not here")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = started.new_page(viewport={"width": 1280, "height": 710})
        page.set_default_timeout(PATIENCE)
        page.route(lambda url: "//127.0.0.1:" not in url, lambda route: route.abort())
        page.on("requestfailed", lambda request: foreign.append(request.url))
        foreign: list[str] = []
        yield page
        started.close()
        assert [url for url in foreign if "//127.0.0.1:" not in url] == []


@pytest.fixture
def sessions(tmp_path, monkeypatch) -> Iterator[Sessions]:
    """Those of a page that is served; its address is in their settings."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made: list[Sessions] = []
    monkeypatch.setattr(
        "eosvos.app.page.Sessions", lambda settings: made.append(Sessions(settings)) or made[0]
    )
    if PICTURES is None:
        monkeypatch.setattr("eosvos.app.sessions.Predictor.from_pretrained", lambda *_, **__: predictor())
    blocks = start(App(output=str(tmp_path / "run"), port=port), block=False)
    yield made[0]
    blocks.close()


def subject(path: Path) -> Path:
    """A video file of the subject's first frames."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=12, options={"crf": "15"})
        stream.height, stream.width, stream.pix_fmt = *SUBJECT.size, "yuv420p"
        for t in range(LENGTH):
            frame = av.VideoFrame.from_ndarray(SUBJECT.image(t).permute(1, 2, 0).numpy(), "rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def still_video(path: Path, length: int) -> None:
    """A video of so many black frames, of 16x16 pixels."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24").reformat(
            format="yuv420p"
        )
        for t in range(length):
            frame.pts = t
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def paint(page: Page, mask: np.ndarray, rows: int) -> None:
    """Paint over an object, mask [H, W], in one stroke from side to side."""
    canvas = page.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    zoom = float(page.get_by_text(re.compile(r"^\d+%$")).first.inner_text().strip("%")) / 100
    left, top = (
        start + (side - zoom * length) / 2
        for start, side, length in zip(
            (box["x"], box["y"]), (box["width"], box["height"]), SUBJECT.size[::-1], strict=True
        )
    )
    ys = mask.any(1).nonzero()[0]
    points = []
    for number, y in enumerate(np.linspace(ys[0] + 2, ys[-1] - 2, rows).astype(int)):
        xs = mask[y].nonzero()[0]
        points += [(x, y) for x in ((xs[0] + 2, xs[-1] - 2) if number % 2 else (xs[-1] - 2, xs[0] + 2))]
    for number, (x, y) in enumerate(points):
        page.mouse.move(left + zoom * float(x), top + zoom * float(y))
        if number == 0:
            page.mouse.down()
    page.mouse.up()


def picture(page: Page, name: str) -> None:
    if PICTURES is not None:
        page.screenshot(path=f"{PICTURES}/{name}.jpg", type="jpeg", quality=85)


def choose(page: Page, path: Path) -> None:
    page.locator("input[type=file]").first.set_input_files(path)


def slowed(batches: Iterable[Batch], sessions: Sessions) -> Iterator[Batch]:
    """Batches, of which the second comes when the session has been stopped."""
    (session,) = sessions._open.values()
    for batch in batches:
        yield batch
        session._stopped.wait()


def number(page: Page, label: str) -> Locator:
    return page.get_by_role("spinbutton", name=re.compile(label))


def eventually(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE / 1000
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_an_object_is_drawn_followed_corrected_and_downloaded(tmp_path, browser, sessions):
    browser.goto(f"http://127.0.0.1:{sessions.settings.port}")
    choose(browser, subject(tmp_path / f"{NAME}.mp4"))
    browser.get_by_text(f"{NAME}.mp4: {LENGTH} frames of").wait_for()
    browser.get_by_text(re.compile(r"^\d+%$")).first.wait_for()
    object_mask, rows = SUBJECT.mask(0).numpy() == 1, 3 if PICTURES is None else 14
    paint(browser, object_mask, rows)
    picture(browser, "app-draw")
    number(browser, "Steps").fill("100")
    learner = sessions.predictor.adapter
    adapt = learner.adapt
    learner.adapt = lambda batches, start: adapt(slowed(batches, sessions), start)
    browser.get_by_role("button", name="Run").click()
    browser.get_by_text(f"Fine-tuning: 0 of {LENGTH} frames").wait_for()
    browser.get_by_role("button", name="Stop").click()
    browser.get_by_text(f"Stopped: 0 of {LENGTH} frames").wait_for()
    learner.adapt = adapt
    number(browser, "Steps").fill("5")
    browser.get_by_role("button", name="Run").click()
    browser.get_by_text(f"Done: {LENGTH} of {LENGTH} frames").wait_for()
    (session,) = sessions._open.values()
    assert session.masks.keys() == {0}
    drawn = session.masks[0].numpy()
    assert set(np.unique(drawn)) == {0, 1}
    assert (drawn == 1)[object_mask].mean() > 0.3
    assert (drawn == 1)[~object_mask].mean() < 0.1
    assert session.done == LENGTH
    video = browser.locator("video")
    video.wait_for()
    picture(browser, "app-run")
    overlay, canvas = video.get_attribute("src"), browser.locator("canvas").first
    seen = [canvas.screenshot()]
    slider = browser.get_by_role("slider", name=re.compile("Frame"))
    for t in (9, 6):
        box, other = slider.bounding_box(), seen[-1]
        slider.click(position={"x": box["width"] * t / (LENGTH - 1), "y": box["height"] / 2})
        assert number(browser, "Frame").input_value() == str(t)
        eventually(lambda other=other: seen.append(canvas.screenshot()) or other != seen[-1] == seen[-2])
    before = session.labels(6).numpy()
    paint(browser, SUBJECT.mask(6).numpy() == 1, rows)
    browser.get_by_role("button", name="Run").click()
    eventually(lambda: video.get_attribute("src") != overlay)
    assert session.masks.keys() == {0, 6}
    assert session.done == LENGTH
    corrected = session.labels(6).numpy()
    assert (corrected == 1).sum() > (before == 1).sum()
    assert np.array_equal(corrected[before == 1], before[before == 1])
    with browser.expect_download() as download:
        browser.get_by_role("button", name="Masks").click()
    assert download.value.suggested_filename == f"{NAME}.masks.zip"
    download.value.save_as(tmp_path / "masks.zip")
    with ZipFile(tmp_path / "masks.zip") as archive:
        assert archive.namelist() == [f"{NAME}/{t:05d}.png" for t in range(LENGTH)]
        for t in (0, LENGTH - 1):
            with archive.open(f"{NAME}/{t:05d}.png") as file, Image.open(file) as image:
                assert np.array_equal(np.asarray(image), session.labels(t).numpy())
    with browser.expect_download() as download:
        browser.get_by_role("button", name="Overlay").click()
    with av.open(str(download.value.path())) as container:
        assert len(list(container.decode(video=0))) == LENGTH
    upload = tmp_path / "upload.png"
    Image.fromarray(3 * (SUBJECT.mask(6).numpy() == 1).astype(np.uint8)).save(upload)
    masks = browser.locator(".block").filter(has_text="Masks of this frame")
    masks.locator("input[type=file]").set_input_files(upload)
    # Requests are let through while the browser is asked something.
    eventually(lambda: bool(browser.title()) and 3 in session.masks[6])
    assert torch.equal(session.masks[6] == 3, SUBJECT.mask(6) == 1)
    browser.get_by_role("button", name="Clear").first.click()
    video.wait_for(state="hidden")
    choose(browser, clip(tmp_path / "other.mp4"))
    browser.get_by_text("other.mp4: 12 frames of").wait_for()
    assert browser.locator(".run").count() == video.count() == 0
    for name in ("Masks", "Overlay"):
        assert browser.get_by_role("button", name=re.compile(rf"^{name} \(")).is_disabled()
    browser.close()
    eventually(lambda: not sessions._open)


@pytest.mark.slow
def test_hostile_files_are_refused_in_a_sentence_and_nothing_is_written_elsewhere(
    tmp_path, browser, sessions
):
    address, run = f"http://127.0.0.1:{sessions.settings.port}", Path(sessions.settings.output)
    for name in ("../../evil.mp4", "..\\evil.mp4", "/evil.mp4", "%2e%2e%2fevil.mp4"):
        answer = httpx.post(f"{address}/gradio_api/upload", files={"files": (name, b"text")}, timeout=None)
        assert not answer.is_success or run in Path(answer.json()[0]).resolve().parents
    assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*evil*")} <= {"run"}
    assert httpx.get(f"{address}/gradio_api/file=/etc/passwd", timeout=None).status_code in (403, 404)
    text, long, broken = (tmp_path / f"{name}.mp4" for name in ("text", "long", "broken"))
    text.write_text("<b>not a video</b>")
    still_video(long, 20_000)
    clip(broken, options={"movflags": "faststart"})
    broken.write_bytes(broken.read_bytes()[: int(broken.stat().st_size * 0.9)])
    for path, said in (
        (text, "text.mp4 is no video that can be read"),
        (long, "long.mp4 has 20000 frames, and max_frames=5000 is the limit"),
        (broken, "broken.mp4 is broken or cut off: only the"),
    ):
        browser.goto(address)
        choose(browser, path)
        browser.get_by_text(said).wait_for()
    browser.get_by_text(re.compile(r"^broken\.mp4: \d+ frames .* breaks off$")).wait_for()
    assert len(sessions._open) == 1
    browser.get_by_role("button", name="Run").click()
    browser.get_by_text("no object is drawn").wait_for()
    assert {path.name for path in tmp_path.iterdir()} == {"run", "text.mp4", "long.mp4", "broken.mp4"}
