"""Values that the shell or Hydra would not leave as they are: what is said works when it is pasted."""

import subprocess
import sys

import pytest
from eosvos.run.explain import explain
from eosvos.run.quoting import check_texts, typed
from hydra.errors import HydraException
from omegaconf import OmegaConf

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
def test_what_is_typed_arrives(compose, value):
    (override,) = through_bash(typed("checkpoint", value))
    assert compose(override).checkpoint == value


def whole(*overrides):
    """A configuration as the callback sees it."""
    cfg = {"checkpoint": None, "hydra": {"overrides": {"task": list(overrides), "hydra": []}}}
    return OmegaConf.create(cfg)


@pytest.mark.parametrize("value", NASTY)
def test_unquoted_it_arrives_or_the_quoting_is_said(compose, value):
    override = f"checkpoint={value}"
    try:
        cfg = compose(override)
        cfg_and_line = OmegaConf.merge(whole(override), {"checkpoint": cfg.checkpoint})
        check_texts(cfg_and_line)
    except UserError as error:
        said = str(error)
    except HydraException as error:
        said = explain(error)
    else:
        assert cfg.checkpoint == value
        return
    assert said.endswith(typed("checkpoint", value))
    assert "\n" not in said


def test_a_value_that_the_shell_has_cut(monkeypatch, compose):
    monkeypatch.setattr(
        sys, "argv", ["train.py", "seed=1", *["checkpoint=my", "new", "file.ckpt"], "iterations=1"]
    )
    with pytest.raises(HydraException) as refused:
        compose(*sys.argv[1:])
    assert explain(refused.value).endswith("""'checkpoint="my new file.ckpt"'""")


def test_names_in_a_list_that_look_like_numbers():
    line = OmegaConf.merge(whole("names=[007,12e3,b]"), {"names": ["007", "12000.0", "b"]})
    with pytest.raises(UserError) as refused:
        check_texts(line)
    assert str(refused.value).endswith("""'names=["007","12e3","b"]'""")
    check_texts(OmegaConf.merge(whole("names=[7,b]"), {"names": ["7", "b"]}))


def test_what_no_quotes_mend(compose):
    with pytest.raises(HydraException) as refused:
        compose("check point=x")
    assert explain(refused.value) == "cannot read 'check point=x': write KEY=VALUE"
