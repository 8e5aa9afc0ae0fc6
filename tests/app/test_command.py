"""eosvos-app: what its command line sets, and what is refused before anything is served."""

import sys
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from eosvos.app.__main__ import serve
from eosvos.config.app import App
from eosvos.config.checks import check_app
from eosvos.config.help import CONF
from eosvos.config.schema import register
from eosvos.errors import UserError


def composed(*overrides: str) -> Any:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("app", overrides=["output=run", *overrides])


def test_settings_have_their_defaults_and_take_the_command_line():
    assert check_app(composed()) == App(output="run")
    assert check_app(composed("port=80", "host=0.0.0.0")) == App(output="run", port=80, host="0.0.0.0")
    assert App(output="run").host == "127.0.0.1"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("port=70000", "port=70000 must be less than or equal to 65535"),
        ("max_frames=0", "max_frames=0 must be greater than or equal to 1"),
        ("checkpoint=smal", "checkpoint=smal: there is no such file, .* did you mean small"),
        ("+fps=3", "there is no key fps"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(override, said):
    with pytest.raises(UserError, match=f"^{said}"):
        check_app(composed(override))


def test_nothing_is_served_without_gradio_or_a_folder_to_write_into(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^output=.*file: .* is a file, not a folder"):
        serve(composed(f"output={tmp_path}/file"))
    monkeypatch.delitem(sys.modules, "eosvos.app.page", raising=False)
    monkeypatch.delitem(sys.modules, "eosvos.app.handlers", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"^the page needs gradio: uv run --extra app eosvos-app"):
        serve(composed(f"output={tmp_path}/run"))
    assert not (tmp_path / "run").exists()
