"""The page without a browser: what its handlers answer, and its server."""

import os
import socket

import gradio as gr
import pytest
from test_session import predictor

from eosvos.app.page import page, start
from eosvos.app.sessions import Sessions
from eosvos.config.app import App


@pytest.fixture
def settings(tmp_path, monkeypatch) -> App:
    """Those of a page whose network is a small one."""
    monkeypatch.setattr("eosvos.app.sessions.Predictor.from_pretrained", lambda *_, **__: predictor())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return App(output=str(tmp_path / "run"), port=free.getsockname()[1])


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
