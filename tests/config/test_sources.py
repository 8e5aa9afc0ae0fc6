"""One data set, or several by name, as the command line and config files put them together."""

import pytest
from helpers import compose, config, prepared
from hydra.errors import HydraException

from eosvos.config.checks import check
from eosvos.config.explain import explain
from eosvos.errors import UserError

BOTH = ("dataset=youtube_vos_davis2017", "dataset.youtube_vos.root=Y", "dataset.davis2017.root=D")
TWO = ("dataset=mixture", "+dataset@dataset.a=davis2017", "+dataset@dataset.b=davis2016")
ROOTS = ("dataset.a.root=A", "dataset.b.root=B")
PROCEDURAL = ("dataset=mixture", "+dataset@dataset.a=procedural", "+dataset@dataset.b=procedural")
NETS = ("segmenter=light_deeplab", "backbone=tiny", "final_eval.selection_videos=2")


def test_a_single_data_set_has_no_name():
    dataset = config("dataset=davis2016", "dataset.root=x", "dataset.frame_window=3").dataset
    assert list(dataset.sources) == [""]
    assert dataset.sources[""].train == dataset.train
    assert dataset.sources[""].frame_window == 3


def test_youtube_vos_and_davis():
    change = (
        "dataset.davis2017.weight=1",
        "dataset.youtube_vos.weight=3",
        "dataset.youtube_vos.frame_window=25",
    )
    dataset = config(
        *BOTH, *change, "dataset.augment.copy_paste=0.5", "dataset.davis2017.short_side=90"
    ).dataset
    davis, youtube = dataset.sources.values()
    assert list(dataset.sources) == ["davis2017", "youtube_vos"]
    assert (davis.train["split"], davis.val["split"], davis.test["split"]) == ("train", "val", "val")
    assert {part["root"] for part in (davis.train, davis.val, davis.test)} == {"D"}
    assert {part["short_side"] for part in (davis.train, davis.val, davis.test)} == {90}
    assert (youtube.train["part"], youtube.test["part"], youtube.val["root"]) == ("fit", "held_out", "Y")
    assert youtube.train["short_side"] is None
    assert (davis.weight, youtube.weight) == (1.0, 3.0)
    assert (davis.frame_window, youtube.frame_window) == (None, 25)
    assert dataset.augment.copy_paste == 0.5


def test_any_list_of_data_sets():
    dataset = config(*TWO, *ROOTS, "dataset.b.train=null", "dataset.a.test=null").dataset
    a, b = dataset.sources.values()
    assert (a.train["root"], a.train["year"], b.val["root"], b.val["year"]) == ("A", "2017", "B", "2016")
    assert b.train is a.test is None


def test_the_order_on_the_command_line_is_of_no_account():
    changed = ("dataset=mixture", TWO[2], TWO[1], *ROOTS)
    assert list(config(*TWO, *ROOTS).dataset.sources) == list(config(*changed).dataset.sources)


def test_a_file_of_ones_own(tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/mine.yaml").write_text(
        'root: ???\ntrain: {_target_: mypackage.videos, root: "${..root}"}\nval: ${.train}\ntest: ${.train}\n'
    )
    (tmp_path / "dataset/ours.yaml").write_text(
        "defaults: [mine@mine, davis2017@davis2017, _self_]\n"
        "mine: {root: M, weight: 1}\n"
        "davis2017: {weight: 3, val: null}\n"
    )
    search = f"hydra.searchpath=[file://{tmp_path}]"
    cfg = compose(search, "dataset=ours", "dataset.davis2017.root=D")
    dataset = check(cfg).dataset
    assert dataset.sources["mine"].test == {"_target_": "mypackage.videos", "root": "M"}
    assert dataset.sources["mine"].weight == 1
    assert dataset.sources["davis2017"].val is None


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ((*BOTH, "dataset.davis2017.weight=0"), "dataset.davis2017.weight=0 must be greater than 0"),
        ((*BOTH, "dataset.davis2017.weight=-1"), "dataset.davis2017.weight=-1 must be greater than 0"),
        (
            (*BOTH, "dataset.davis2017.weight=2"),
            "dataset.youtube_vos.weight is needed beside the weights of others",
        ),
        ((*BOTH, "dataset.davis2017.frame_window=-1"), "dataset.davis2017.frame_window=-1 must be greater"),
        (BOTH[:2], "dataset.davis2017.root has no value: give it, dataset.davis2017.root=VALUE"),
        ((*BOTH, "dataset.davis.root=x"), "there is no key dataset.davis: did you mean dataset.davis2017?"),
        (
            (*BOTH, "dataset.davis2017.year=2020"),
            "dataset.davis2017.year=2020: 2020 must be '2016' or '2017'",
        ),
        ((*BOTH, "dataset.davis2017.val.short_side=1"), "dataset.davis2017.val.short_side=1 must be"),
        (("dataset=mixture",), "dataset has no videos: write dataset=OPTION"),
        ((*TWO[:1], "+dataset@dataset.a=davs2017"), "dataset has no option davs2017: did you mean davis2017"),
        ((*TWO[:1], "+dataset@dataset.a=synthetic"), "dataset=synthetic brings networks, too"),
        (
            ("dataset=davis2017", "dataset.root=x", TWO[2], "dataset.b.root=y"),
            "dataset has train of its own beside",
        ),
        (
            (*TWO, *ROOTS, "dataset.a.train=null", "dataset.b.train=null"),
            "no data set has videos for train: name some, 'dataset.NAME.train={",
        ),
        ((*PROCEDURAL, "dataset.b.val.num_videos=null"), "dataset.b.val must be a list of videos"),
        (("dataset=images", "dataset.root=x"), "no data set has videos for val: name some, 'dataset.val={"),
    ],
)
def test_mistakes_are_said_in_one_sentence(overrides, sentence):
    with pytest.raises((UserError, HydraException)) as caught:
        prepared(*overrides, *NETS)
    said = str(caught.value) if isinstance(caught.value, UserError) else explain(caught.value)
    assert said.startswith(sentence)
    assert "\n" not in said


def test_videos_are_listed_by_data_set():
    change = ("dataset.b.seed=5", "dataset.a.weight=1", "dataset.b.weight=2", "dataset.b.frame_window=3")
    _, videos = prepared(*PROCEDURAL, *change, "dataset.a.val=null", "dataset.b.test.num_videos=3", *NETS)
    assert [(one.name, one.weight, one.frame_window) for one in videos.train] == [("a", 1, None), ("b", 2, 3)]
    assert {name: len(of_set) for name, of_set in videos.val.items()} == {"b": 6}
    assert {name: len(of_set) for name, of_set in videos.test.items()} == {"a": 20, "b": 3}
    # Each gives one in turn.
    assert [video.num_objects for video in videos.selection] == [
        one.videos[0][0].num_objects for one in videos.train
    ]
