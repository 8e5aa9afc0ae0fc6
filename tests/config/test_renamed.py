"""Keys and options of earlier versions: each is answered with what it is called now."""

import copy

import pytest
from helpers import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from eosvos.config.checks import check
from eosvos.config.explain import explain
from eosvos.config.help import CONF, options
from eosvos.config.renamed import RENAMED
from eosvos.errors import UserError

KEYS = [old for old in RENAMED if "=" not in old]
OPTIONS = [old for old in RENAMED if "=" in old]


def answer(override: str) -> str | None:
    try:
        check(compose(override))
    except HydraException as error:
        return explain(error)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("old", KEYS)
def test_an_old_key_is_answered_with_its_new_name(old):
    assert answer(f"{old}=3") == f"{old} is renamed to {RENAMED[old]}"


def test_an_old_key_that_is_added_is_answered_likewise():
    whole = compose()
    for old in KEYS:
        cfg = copy.deepcopy(whole)
        # What Hydra makes of +KEY=3.
        OmegaConf.update(cfg, old, 3, force_add=True)
        with pytest.raises(UserError) as refused:
            check(cfg)
        assert str(refused.value) == f"{old} is renamed to {RENAMED[old]}"


@pytest.mark.parametrize("old", OPTIONS)
def test_an_old_option_is_answered_with_its_new_name(old):
    assert {"segmenter=semantic", "schedule=hours"} <= set(OPTIONS)
    assert answer(old) == f"{old} is renamed to {RENAMED[old]}"


def test_a_key_that_is_added_by_force_or_with_others():
    assert answer("+meta.batch=3") == answer("++meta.batch=3") == "meta.batch is renamed to meta.batch_size"
    assert answer("+meta.rates={clip:3}") == "meta.rates.clip is renamed to meta.inner_lr.max_grad_norm"
    assert answer("+schedule=hours") == "schedule=hours is renamed to experiment=small"


def test_every_new_name_is_there():
    cfgs = [compose(), compose("segmenter=light_deeplab")]
    for new in RENAMED.values():
        name, _, option = new.partition("=")
        if option:
            assert option in options(name), new
        elif "/" in name or name == "experiment":
            assert (CONF / name).is_dir(), new
        else:
            parent, _, leaf = name.rpartition(".")
            found = [OmegaConf.select(cfg, parent) if parent else cfg for cfg in cfgs]
            assert any(isinstance(group, DictConfig) and leaf in group for group in found), new


def test_no_old_name_is_there():
    cfg = compose("segmenter=light_deeplab")
    for old in KEYS:
        parent, _, leaf = old.rpartition(".")
        group = OmegaConf.select(cfg, parent) if parent else cfg
        assert group is None or leaf not in group, old
