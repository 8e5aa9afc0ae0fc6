"""Every declared setting: what it refuses, before work."""

import copy

import pytest
from eosvos.run.rules import check_values, declared, expand_home
from omegaconf import DictConfig, FloatNode, ListConfig, OmegaConf, StringNode

from eosvos.errors import UserError

CONFIGURATIONS = (
    (),
    ("dataset=davis2016", "dataset.root=x"),
    ("dataset=youtube_vos", "dataset.root=x"),
    ("dataset=folder", "dataset.images=x", "dataset.masks=y"),
    ("segmenter=semantic", "backbone=resnet18", "logger=wandb"),
    ("backbone=timm", "backbone.name=x"),
)
# What is no value of any setting of a kind: numbers are finite, lists have entries, texts have letters.
NEVER = {FloatNode: (float("nan"), float("inf"), -float("inf")), ListConfig: ([],), StringNode: ("", "  ")}


def groups(node, path=""):
    """(path, group) of a configuration and of all groups in it that declare their settings."""
    if declared(node) is not None:
        yield path, node
    for name in node:
        if not OmegaConf.is_missing(node, name) and isinstance(node[name], DictConfig):
            yield from groups(node[name], f"{path}{name}.")


@pytest.mark.parametrize("overrides", CONFIGURATIONS, ids=lambda overrides: overrides[0] if overrides else "")
def test_no_setting_takes_what_is_no_value(compose, overrides):
    cfg = compose(*overrides)
    check_values(cfg)
    tried = 0
    for path, group in groups(cfg):
        for name, rule in declared(group).items():
            node = group._get_node(name)
            for never in () if rule.get("blank") else NEVER.get(type(node), ()):
                wrong = copy.deepcopy(group)
                wrong[name] = never
                with pytest.raises(UserError, match=rf"^{path}{name}="):
                    check_values(wrong, path)
                tried += 1
    assert tried > 20


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("dataset.size=[96]", "dataset.size=[96] needs 2 entries, not 1"),
        ("dataset.size=[96,128,3]", "needs 2 entries, not 3"),
        ("dataset.size=[96,16]", "dataset.size=[96, 16]: 16 is too small: it must be at least 32"),
        ("report.rates=[0.1]", "report.rates=[0.1] needs 2 or more entries, not 1"),
        ("report.rates=[0,1]", "0.0 is too small"),
        ("meta.step_weights=[1,-1]", "-1.0 is too small"),
        ("segmenter.anchor_sizes=[a,b,c]", "a is no number"),
        ("segmenter.anchor_sizes=[null,1,1]", "None is no number"),
        ("segmenter.anchor_sizes=[[],1,1]", "[] needs 1 or more entries"),
        ("segmenter.anchor_sizes=[[[1]],1,1]", "a list too deep"),
        ("segmenter.anchor_sizes=[{a:1},1,1]", "is no number"),
        ("segmenter.anchor_ratios=[0]", "must be greater than 0"),
        ("~seed", "seed is needed: leave ~seed out"),
        ("~dataset", "dataset has no value: write dataset=OPTION, one of davis2016, "),
    ],
)
def test_wrong_values(compose, override, said):
    with pytest.raises(UserError) as refused:
        check_values(compose(override))
    assert said in str(refused.value)


def test_a_list_for_each_level_is_fine(compose):
    check_values(compose("segmenter.anchor_sizes=[[1,2],[3,4],[5,6.5]]", "logger.csv.version="))


def test_home_is_expanded_wherever_a_location_is_declared(compose, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    data = ("dataset=folder", 'dataset.images="~/clip"', 'dataset.masks="~/mask.png"')
    files = ('checkpoint="~/a.ckpt"', 'results="~/out"', 'backbone.weights="~/w.pth"')
    cfg = compose(*data, *files, "backbone=resnet18", 'segmenter.weights="~/s.pth"')
    cfg.output = "~/run"
    expand_home(cfg)
    keys = ("dataset.images", "dataset.test.masks", "checkpoint", "results", "output", "backbone.weights")
    for key in (*keys, "segmenter.weights", "logger.csv.save_dir"):
        assert OmegaConf.select(cfg, key).startswith("/home/someone/"), key
