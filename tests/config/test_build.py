"""Building objects, and what a checkpoint may build."""

import pytest
from eosvos.run.instantiate import build, check_trusted
from omegaconf import OmegaConf

from eosvos.errors import UserError

SYNTHETIC = "eosvos.data.synthetic.synthetic_sequences"


def test_builds_with_plain_values():
    node = OmegaConf.create({"_target_": "builtins.dict", "a": {"b": [1, 2]}})
    built = build(node, c=3)
    assert built == {"a": {"b": [1, 2]}, "c": 3}
    assert type(built["a"]) is dict
    assert type(built["a"]["b"]) is list


def test_user_errors_come_through():
    with pytest.raises(UserError) as caught:
        build({"_target_": SYNTHETIC, "range_name": "dev", "count": 1, "size": [1, 1]})
    assert "Error in call" not in str(caught.value)


def test_networks_of_eosvos_are_trusted():
    check_trusted({"segmenter": {"_target_": "eosvos.models.mask_rcnn.MaskRCNN", "sizes": [[1], 2]}})
    check_trusted([{"_target_": "eosvos.models.backbones.tiny_backbone"}])


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "eosvos.errors",
        "eosvos.run.record.subprocess.run",
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
    with pytest.raises(UserError, match="refused"):
        check_trusted({"model": [{"backbone": {"_target_": target}}]})


def test_references_are_refused():
    with pytest.raises(UserError, match="refused"):
        check_trusted({"name": "${oc.env:HOME}"})
