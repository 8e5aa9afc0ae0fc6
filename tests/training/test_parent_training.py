"""Parent training by itself, on data in the official layouts, and the meta-training that starts from it."""

import pytest
import torch
from helpers import SMALL, prepared
from small_videos import davis, stills, voc2012, youtube_vos

from eosvos.errors import UserError
from eosvos.meta.checkpoint import load_checkpoint
from eosvos.training.train import train

MAKE = {"davis2017": davis, "youtube_vos": youtube_vos, "images": stills, "voc2012": voc2012}
NETWORKS = {
    "tiny_mask_rcnn": ("backbone=tiny", "backbone.width=8", "backbone.fpn_channels=16"),
    "light_deeplab": ("backbone=tiny", "backbone.width=8", "backbone.fpn_channels=16"),
    "deeplabv3plus": ("backbone=resnet18", "backbone.weights=none", "segmenter.weights=none"),
}
SYNTHETIC = "_target_: eosvos.data.synthetic.synthetic_videos,split: val"
SHORT = (
    *("meta=tiny", "finetune=quick", "trainer=cpu"),
    *(one for one in SMALL if not one.startswith(("dataset.", "backbone."))),
)
ALONE = ("iterations=0", "parent.steps=2", "parent.batch_size=1", "parent.optimizer.lr=1e-3")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The command line of each data set."""
    root = tmp_path_factory.mktemp("data")
    for name, make in MAKE.items():
        make(root / name, 40)
    more = {"youtube_vos": ("dataset.held_out=1",), "davis2017": ("dataset.test.sequences=[fox]",)}
    return {name: (f"dataset={name}", f"dataset.root={root / name}", *more.get(name, ())) for name in MAKE}


@pytest.mark.parametrize(
    ("dataset", "network"),
    [
        ("davis2017", "tiny_mask_rcnn"),
        ("youtube_vos", "light_deeplab"),
        ("images", "tiny_mask_rcnn"),
        pytest.param("voc2012", "deeplabv3plus", marks=pytest.mark.slow),
    ],
)
def test_its_weights_start_meta_training(data, tmp_path, capsys, dataset, network):
    network_of = (f"segmenter={network}", *NETWORKS[network], *SHORT)
    alone = train(*prepared(*data[dataset], *network_of, *ALONE, output=tmp_path / "parent"))
    assert bool(alone.rows) == (dataset in ("davis2017", "youtube_vos"))
    said = "There is no evaluation: no data set has videos for test" in capsys.readouterr().out
    assert said == (not alone.rows)
    checkpoint = tmp_path / "parent/checkpoints/parent-last.ckpt"
    parent = load_checkpoint(checkpoint)
    assert (parent.stage, parent.iteration) == ("parent", 2)
    start = (f"checkpoint={checkpoint}", "iterations=1", "val_every=1")
    result = train(*prepared(*data["davis2017"], *SHORT, *start, output=tmp_path / "meta"))
    found = dict(result.initial.named_parameters())
    for name, value in parent.learner.named_parameters():
        assert torch.equal(value, found[name]), name
    trained = zip(result.learner.weights(), result.initial.weights(), strict=True)
    assert any(not torch.equal(after, before) for after, before in trained)


def test_alone_it_needs_no_videos_to_validate_or_test_on_and_something_to_train_on(data):
    alone = (*data["voc2012"], *NETWORKS["light_deeplab"], "segmenter=light_deeplab", *SHORT)
    _, videos = prepared(*alone, *ALONE)
    assert (videos.val, videos.test, videos.selection) == ({}, {}, [])
    with pytest.raises(UserError, match="no data set has videos for val"):
        prepared(*alone, *ALONE, "iterations=1")
    with pytest.raises(UserError, match="no data set has videos for test"):
        prepared(*alone, *ALONE, "iterations=1", f"dataset.val={{{SYNTHETIC},num_videos: 1}}")
    with pytest.raises(UserError, match="no data set has videos for test"):
        prepared(*alone, entry="evaluate")
    with pytest.raises(UserError, match="no data set has videos for train"):
        prepared(*alone, *ALONE, "dataset.train=null", f"dataset.val={{{SYNTHETIC},num_videos: 1}}")
