"""Building objects, and what a checkpoint may build."""

from collections import OrderedDict

import pytest
from omegaconf import OmegaConf
from torch import nn

from eosvos.config.build import build, build_a, check_trusted
from eosvos.config.models import TinyBackbone
from eosvos.errors import UserError

SYNTHETIC = "eosvos.data.synthetic.synthetic_videos"
FILE = "checkpoint=a.ckpt"


def test_builds_with_plain_values():
    node = OmegaConf.create({"_target_": "builtins.dict", "a": {"b": [1, 2]}})
    built = build(node, [("c", 3)])
    assert built == {"a": {"b": [1, 2]}, "c": 3}
    assert type(built["a"]) is dict
    assert type(built["a"]["b"]) is list


def test_what_is_declared_takes_its_settings_whole_after_the_arguments():
    backbone = build({"_target_": TinyBackbone.target, "width": 8, "fpn_channels": 16})
    segmenter = build(
        {"_target_": "eosvos.models.light_deeplab.LightDeepLab", "dilations": [1, 3], "channels": 8}, backbone
    )
    assert segmenter.backbone is backbone.body
    assert {m.dilation for m in segmenter.modules() if isinstance(m, nn.Conv2d)} >= {(1, 1), (3, 3)}


def refuse(reason):
    raise UserError(reason)


def test_user_errors_come_through():
    with pytest.raises(UserError) as caught:
        build({"_target_": "eosvos.data.davis.davis_sequences", "root": "/nowhere"})
    assert "/nowhere does not exist" in str(caught.value)
    with pytest.raises(UserError) as caught:
        build({"_target_": f"{__name__}.refuse", "reason": "no such thing"})
    assert str(caught.value) == "no such thing"


@pytest.mark.parametrize(
    "node",
    [{"_target_": "gone.Thing"}, {"_target_": "builtins.int", "mistaken": 1}, {"_target_": "math.gone"}],
)
def test_what_cannot_be_built_is_one_sentence(node):
    with pytest.raises(UserError, match=f"{node['_target_']} cannot be built: ") as caught:
        build(node)
    assert "\n" not in str(caught.value)


def test_networks_of_eosvos_are_trusted():
    check_trusted({"segmenter": {"_target_": "eosvos.models.mask_rcnn.MaskRCNN", "sizes": [[1], 2]}}, FILE)
    check_trusted([{"_target_": "eosvos.models.backbones.tiny_backbone"}], FILE)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "eosvos.errors",
        "eosvos.evaluation.provenance.subprocess.run",
        "eosvos.seeding.hashlib.md5",
        "eosvos.models.mask_rcnn.RPNHead",
        "eosvos.writing.write_whole",
        SYNTHETIC,
        "eosvos.models.gone.Gone",
        "eosvosx.Thing",
        "eosvos..seeding",
        ["eosvos.seeding.derive_seed"],
        None,
    ],
)
def test_others_are_not(target):
    with pytest.raises(UserError, match=r"checkpoint=a\.ckpt asks for .* refused"):
        check_trusted({"model": [{"backbone": {"_target_": target}}]}, FILE)


def test_a_package_is_trusted_by_its_name_alone():
    node = {"_target_": "collections.OrderedDict"}
    for trusted in ([], ["collection"], ["collections.abc"], ["coll"]):
        with pytest.raises(UserError, match=r"trusted=\[PACKAGE\]"):
            check_trusted(node, FILE, trusted)
    check_trusted(node, FILE, ["collections"])
    # Defined there, not only imported.
    with pytest.raises(UserError, match="refused"):
        check_trusted(
            {"_target_": "eosvos.evaluation.provenance.subprocess.run"}, FILE, ["eosvos.evaluation"]
        )


def test_references_are_refused():
    with pytest.raises(UserError, match="refused"):
        check_trusted({"name": "${oc.env:HOME}"}, FILE)


def test_what_is_built_is_of_the_kind_that_belongs_there():
    assert build_a(dict, {"_target_": "collections.OrderedDict", "a": 1}) == OrderedDict(a=1)
    with pytest.raises(UserError, match=r"os\.getcwd must make a dict, not str"):
        build_a(dict, {"_target_": "os.getcwd"})
