"""Values that the shell or Hydra would not leave as they are: what is said works when it is pasted."""

import os
import subprocess
import sys

import pytest
from helpers import command_line, compose, given
from hydra.errors import HydraException

from eosvos.config.checks import check
from eosvos.config.explain import explain
from eosvos.config.quoting import typed
from eosvos.errors import UserError

NASTY = (
    "a=b.ckpt",
    "my file.ckpt",
    "[new].ckpt",
    "[new]",
    "{a:1}",
    "clip (1)",
    "clip(1)",
    "a,b.ckpt",
    "~/run/last.ckpt",
    "it's.ckpt",
    'say "hi".ckpt',
    "both ' and \".ckpt",
    "vidéo/größe/视频.ckpt",
    "cost $5 #1 & 50%; `x` !.ckpt",
    "back\\slash.ckpt",
    "ends with\\",
    "1.10",
    "1e3",
    "1_000",
    "true",
    "a<b>c|d*?^.ckpt",
)


def through_bash(word):
    """What a program gets when a word is typed into bash."""
    echo = "import sys; print(*sys.argv[1:], sep='\\0')"
    done = subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {word}', sys.executable, echo],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.removesuffix("\n").split("\0")


@pytest.mark.parametrize("value", NASTY)
def test_what_is_typed_arrives(value):
    (override,) = through_bash(typed("results", value))
    assert given(override).results == value


@pytest.mark.parametrize("value", NASTY)
def test_unquoted_it_arrives_or_the_quoting_is_said(value):
    try:
        with command_line(f"results={value}") as cfg:
            arrived = check(cfg).results
    except UserError as error:
        said = str(error)
    except HydraException as error:
        said = explain(error)
    else:
        assert arrived == os.path.expanduser(value)
        return
    assert said.endswith(typed("results", value))
    assert "\n" not in said


def test_a_value_that_the_shell_has_cut(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=1", *["results=my", "new", "folder"], "iterations=1"])
    with pytest.raises(HydraException) as refused:
        compose(*sys.argv[1:])
    assert explain(refused.value).endswith("""'results="my new folder"'""")


@pytest.mark.parametrize("key", ["dataset.annotated", "dataset.test.annotated", "trusted"])
def test_names_in_a_list_that_look_like_numbers(key):
    data = ("dataset=folder", "dataset.images=x", "dataset.masks=y")
    with command_line(*data, f"{key}=[007,12e3,b]") as cfg, pytest.raises(UserError) as refused:
        check(cfg)
    assert str(refused.value).endswith(f"""'{key}=["007","12e3","b"]'""")
    (override,) = through_bash(str(refused.value).rpartition("write ")[2])
    with command_line(*data, override) as cfg:
        arrived = check(cfg)
    names = arrived.trusted if key == "trusted" else arrived.dataset.test["annotated"]
    assert names == ["007", "12e3", "b"]


def test_what_no_quotes_mend():
    with pytest.raises(HydraException) as refused:
        compose("check point=x")
    assert explain(refused.value) == "cannot read 'check point=x': write KEY=VALUE"
