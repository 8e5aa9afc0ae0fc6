"""Files of an evaluation: what other tools read, and what an interrupted evaluation goes on from."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from eosvos.errors import UserError
from eosvos.evaluation.metrics import ObjectScore, Statistics
from eosvos.evaluation.overlay import OverlayStrip
from eosvos.evaluation.records import SequenceRecord
from eosvos.evaluation.results import ResultsFolder, davis_palette

MANIFEST = {"checkpoint": "abc", "finetune": {"steps": 10, "online": {"every": 5}}, "segmenter": "tiny"}


def score(object_id: int, j: float, f: float) -> ObjectScore:
    return ObjectScore(object_id, Statistics(j, 0.5, 0.125), Statistics(f, 0.25, -0.5), (j, j), (f, f))


def record(sequence: str, *scores: ObjectScore) -> SequenceRecord:
    return SequenceRecord(sequence, 4, len(scores) or 1, scores or None, 1.25, 0.5)


def opened(root, split="val", manifest=MANIFEST, overwrite=False) -> ResultsFolder:
    folder = ResultsFolder(root, split)
    folder.open(manifest, overwrite)
    return folder


def write_pictures(folder: ResultsFolder, sequence, count=None) -> None:
    for t, name in enumerate(sequence.frame_names[:count]):
        folder.write_frame(sequence.name, name, torch.from_numpy(sequence.masks[t]))


def fill(folder: ResultsFolder, sequence) -> None:
    assert folder.begin(sequence) is None
    write_pictures(folder, sequence)
    folder.finish(record(sequence.name, score(1, 0.5, 0.5)))


def content(root) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def make(make_sequence):
    """A video of a name, of two frames with a pixel of object 1 at a place."""

    def made(name="dog", place=0, frames=2):
        mask = np.zeros((4, 6), np.uint8)
        mask.flat[place] = 1
        return make_sequence([mask] * frames, name)

    return made


def test_palette_is_that_of_the_davis_annotations(shared):
    annotation = shared / "goldens/davis_metrics/multi/annotations/judo/00000.png"
    official = np.array(Image.open(annotation).getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(davis_palette()[: len(official)], official)


def test_first_colours_and_all_different():
    palette = davis_palette()
    assert palette[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert palette[8].tolist() == [64, 0, 0]
    assert len({tuple(colour) for colour in palette.tolist()}) == 256


def test_frames_are_palette_pngs_that_hold_the_ids(tmp_path):
    labels = torch.tensor([[0, 1, 2], [3, 254, 255]], dtype=torch.uint8)
    opened(tmp_path).write_frame("dog", "00007", labels)
    with Image.open(tmp_path / "dog/00007.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image), labels.numpy())
        assert image.getpalette()[3:6] == [128, 0, 0]
    assert [path.name for path in (tmp_path / "dog").iterdir()] == ["00007.png"]


@pytest.mark.parametrize("scores", [(), (score(1, 0.1, 1 / 3),), (score(1, 0.5, 0.6), score(7, 0.0, 1.0))])
def test_record_round_trip_through_json(scores):
    one = record("dog", *scores)
    assert SequenceRecord.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_a_sequence_is_finished_only_by_its_record(tmp_path, make):
    folder = opened(tmp_path)
    assert folder.begin(make()) is None
    write_pictures(folder, make())
    assert opened(tmp_path).begin(make()) is None
    write_pictures(folder, make())
    folder.finish(record("dog", score(1, 0.5, 0.5)))
    before = opened(tmp_path).begin(make())
    assert before == replace(record("dog", score(1, 0.5, 0.5)), finished_before=True)
    assert before.title == "dog (finished before)"
    assert opened(tmp_path).begin(make("cat")) is None


def test_a_record_of_before_unfinished_videos_were_gone_on_with_is_taken(tmp_path, make):
    fill(opened(tmp_path), make())
    path = tmp_path / "dog.record.json"
    values = json.loads(path.read_text())
    assert values.pop("temporary") == []
    path.write_text(json.dumps(values))
    assert opened(tmp_path).begin(make()) is not None


def test_another_manifest_is_refused_and_told_apart(tmp_path):
    opened(tmp_path)
    other = {**MANIFEST, "finetune": {"steps": 50, "online": {"every": 5}}, "extra": True}
    with pytest.raises(UserError) as error:
        opened(tmp_path, manifest=other)
    message = str(error.value)
    assert str(tmp_path) in message
    assert "finetune.steps is 10 there and 50 here" in message
    assert "extra is None there and True here" in message
    assert "overwrite=true" in message
    assert "segmenter" not in message
    assert "online" not in message


@pytest.mark.parametrize("missing", ["dog/00001.png", "manifest.json", "dog.record.json"])
def test_what_is_not_whole_is_computed_again(tmp_path, make, missing):
    fill(opened(tmp_path), make())
    (tmp_path / missing).unlink()
    if missing == "dog.record.json":
        with pytest.raises(UserError, match=r"holds .*dog/00000\.png, which eosvos did not write"):
            opened(tmp_path).begin(make())
    else:
        changed = MANIFEST if missing != "manifest.json" else {**MANIFEST, "segmenter": "other"}
        assert opened(tmp_path, manifest=changed).begin(make()) is None


@pytest.mark.parametrize("content", [b"", b"corrected by hand"])
def test_a_picture_that_was_changed_is_neither_taken_nor_replaced(tmp_path, make, content):
    fill(opened(tmp_path), make())
    (tmp_path / "dog/00000.png").write_bytes(content)
    for video in (make(), make(place=5)):
        with pytest.raises(UserError, match="pictures of dog were changed after they were written"):
            opened(tmp_path).begin(video)
    assert (tmp_path / "dog/00000.png").read_bytes() == content
    folder = opened(tmp_path, overwrite=True)
    assert folder.begin(make()) is None


@pytest.mark.parametrize("changed", [{"place": 5}, {"frames": 3}, {"frames": 1}])
def test_a_changed_video_is_computed_again_and_its_old_pictures_go(tmp_path, make, changed, caplog):
    fill(opened(tmp_path), make())
    fill(opened(tmp_path), make("cat"))
    (tmp_path / "dog/notes.txt").write_text("mine")
    folder = opened(tmp_path)
    folder.write_tables([record("dog", score(1, 0.5, 0.5))])
    assert folder.begin(make("cat")) is not None
    assert all((tmp_path / name).is_file() for name in folder.tables)
    assert folder.begin(make(**changed)) is None
    assert not any((tmp_path / name).exists() for name in folder.tables), "they are of the video before"
    assert "is of other frames, masks or settings, and computed anew" in caplog.text
    assert [path.name for path in (tmp_path / "dog").iterdir()] == ["notes.txt"]
    write_pictures(folder, make(**changed))
    folder.finish(record("dog"))
    assert opened(tmp_path).begin(make(**changed)) is not None
    assert opened(tmp_path).begin(make()) is None


def test_a_strip_that_is_wanted_later_is_made_with_the_masks(tmp_path, make):
    fill(opened(tmp_path), make())
    assert opened(tmp_path).begin(make()) is not None
    assert opened(tmp_path).begin(make(), overlay=True) is None


@pytest.mark.parametrize("interrupted", [False, True])
def test_overwrite_deletes_what_eosvos_wrote_and_nothing_else(tmp_path, make, interrupted):
    folder = opened(tmp_path, "train")
    fill(folder, make("gone"))
    folder.write_tables([record("gone", score(1, 0.5, 0.5))])
    assert folder.begin(make(), overlay=True) is None
    write_pictures(folder, make(), count=1)
    folder.overlay_path("dog").write_bytes(b"a strip")
    (tmp_path / "dog/.00001.png.4711").write_bytes(b"interrupted while it was written")
    if not interrupted:
        write_pictures(folder, make())
        folder.finish(record("dog"))
    mine = {
        "mine_results-train.csv": b"1",
        "cat/00000.png": b"2",
        "dog/00009.png": b"3",
        "a.overlay.png": b"4",
    }
    for name, text in mine.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text)
    other = {**MANIFEST, "checkpoint": "def"}
    with pytest.raises(UserError, match="checkpoint is 'abc' there and 'def' here"):
        opened(tmp_path, "train", other)
    opened(tmp_path, "val", other, overwrite=True)
    there = content(tmp_path)
    assert there.pop("manifest.json")
    assert there == mine
    assert not (tmp_path / "gone").exists()


def test_a_folder_of_results_can_be_begun_anew_as_often_as_one_likes(tmp_path, make):
    for _ in range(2):
        folder = opened(tmp_path, overwrite=True)
        fill(folder, make())
        folder.write_tables([record("dog", score(1, 0.5, 0.5))])
        folder.check([make()], [])
    assert opened(tmp_path).begin(make()) is not None


@pytest.mark.parametrize(
    "name",
    ["dog/00001.png", "dog.overlay.png", "manifest.json", "dog.record.json", "global_results-val.csv"],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_others_are_refused_before_work_and_stay(tmp_path, make, name, overwrite):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(UserError, match="choose another folder, or move it away") as error:
        ResultsFolder(tmp_path, "val").check([make("cat"), make()], [])
    assert str(tmp_path / name) in str(error.value)
    assert "overwrite" not in str(error.value)

    def work():
        opened(tmp_path, overwrite=overwrite).begin(make(), overlay=True)

    with pytest.raises(UserError, match="choose another folder, or move it away"):
        work()
    assert (tmp_path / name).read_text() == '{"mine": 1}'


def test_a_file_in_the_place_of_a_sequences_folder_is_found_before_work(tmp_path, make):
    (tmp_path / "dog").write_text("mine")
    with pytest.raises(UserError, match=r"dog is a file, not a folder"):
        ResultsFolder(tmp_path, "val").check([make("cat"), make()], [])


def test_results_of_before_there_were_records_are_not_taken_over(tmp_path, make):
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    (tmp_path / "dog.finished.json").write_text('{"sequence": "dog", "num_frames": 2, "scores": null}')
    with pytest.raises(UserError, match=r"manifest\.json is not as this version of eosvos writes it"):
        opened(tmp_path)
    assert ResultsFolder(tmp_path / "new", "val").check([make()], []) is None


@pytest.mark.parametrize(
    "listed", ["../mine.png", "/mine.png", "dog/../../mine.png", "cat/00000.png", "mine.png"]
)
def test_a_record_cannot_have_files_elsewhere_deleted(tmp_path, make, listed):
    root = tmp_path / "out"
    opened(root)
    (tmp_path / "mine.png").write_text("mine")
    (root / "dog.record.json").write_text(
        json.dumps({"fingerprint": "", "pictures": [listed], "record": None})
    )
    with pytest.raises(UserError, match=r"dog\.record\.json is not as"):
        opened(root, overwrite=True)
    assert (tmp_path / "mine.png").read_text() == "mine"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, make, name):
    with pytest.raises(UserError, match="cannot name a file in the results folder: rename it"):
        ResultsFolder(tmp_path, "val").check([make(name)], [])
    frames = make()
    frames.frame_names = ("0", name)
    with pytest.raises(UserError, match="cannot name a file"):
        ResultsFolder(tmp_path, "val").check([frames], [])


def test_two_videos_or_frames_of_one_name_are_refused(tmp_path, make):
    ResultsFolder(tmp_path, "val").check([make("dog"), make("Dog"), make("..dog")], [])
    with pytest.raises(UserError, match="sequence: 'dog' comes twice"):
        ResultsFolder(tmp_path, "val").check([make("dog"), make("cat"), make("dog")], [])
    frames = make()
    frames.frame_names = ("0", "0")
    with pytest.raises(UserError, match="frame of dog: '0' comes twice"):
        ResultsFolder(tmp_path, "val").check([frames], [])


@pytest.mark.parametrize("read", ["dog", "dog/00000.png"])
def test_what_is_read_is_not_deleted_though_eosvos_wrote_it(tmp_path, make, read):
    fill(opened(tmp_path), make())
    folder = ResultsFolder(tmp_path, "val")
    folder.check([make("next")], [tmp_path / read])
    with pytest.raises(UserError, match=r"would (replace|write into) .*dog.*, which is read"):
        folder.check([make("next")], [tmp_path / read], overwrite=True)


def test_a_mask_that_is_read_is_not_replaced_though_eosvos_wrote_it(tmp_path, make):
    fill(opened(tmp_path), make())
    ResultsFolder(tmp_path, "val").check([make()], [tmp_path / "mask.png"])
    with pytest.raises(UserError, match=r"would replace .*dog/00000\.png, which is read"):
        ResultsFolder(tmp_path, "val").check([make()], [tmp_path / "dog/00000.png"])


def test_manifest_values_compare_as_they_are_stored(tmp_path):
    """Tuples become lists in JSON; that is no difference."""
    opened(tmp_path, manifest={"anchors": (1, 2)})
    opened(tmp_path, manifest={"anchors": [1, 2]})


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", '{"sequence": "dog"}', '{"tables": 3}', '{"tables": ["../a"]}']
)
def test_broken_manifest_and_broken_record_are_named(tmp_path, make, text):
    folder = opened(tmp_path)
    (tmp_path / "dog.record.json").write_text(text)
    with pytest.raises(UserError, match=r"dog\.record\.json is not as"):
        folder.begin(make())
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json is not as"):
        opened(tmp_path)


def test_official_tables(tmp_path):
    folder = opened(tmp_path)
    folder.write_tables(
        [
            record("dog", score(1, 0.5, 0.75)),
            record("hidden"),
            record("cats", score(1, 1.0, 1.0), score(2, 0.123456, 0.0)),
        ]
    )
    assert (tmp_path / "per-sequence_results-val.csv").read_text() == (
        "Sequence,J-Mean,F-Mean\ndog_1,0.500,0.750\ncats_1,1.000,1.000\ncats_2,0.123,0.000\n"
    )
    assert (tmp_path / "global_results-val.csv").read_text() == (
        "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay\n0.562,0.541,0.500,0.125,0.583,0.250,-0.500\n"
    )


def test_tables_of_the_golden_sequences(shared, tmp_path):
    """The numbers of the official tool's own run, written as it writes them."""
    expected = json.loads((shared / "goldens/davis_metrics/multi/expected.json").read_text())
    records = []
    for name, objects in expected["sequences"].items():
        scores = [
            ObjectScore(int(key), Statistics(**value["J"]), Statistics(**value["F"]), (), ())
            for key, value in objects.items()
        ]
        records.append(record(name, *scores))
    opened(tmp_path, "multi").write_tables(records)
    with open(tmp_path / "global_results-multi.csv") as file:
        (row,) = csv.DictReader(file)
    assert row["J&F-Mean"] == f"{expected['global_']['J&F']:.3f}"
    for measure in ("J", "F"):
        for statistic in ("mean", "recall", "decay"):
            assert row[f"{measure}-{statistic.title()}"] == f"{expected['global_'][measure][statistic]:.3f}"


def test_the_only_folders_are_sequences(two_squares, tmp_path):
    """vos-benchmark takes every folder for a sequence, and every file in one for a frame."""
    folder = opened(tmp_path)
    folder.begin(two_squares, overlay=True)
    strip = OverlayStrip(two_squares)
    for t, mask in enumerate(two_squares.masks):
        folder.write_frame("squares", two_squares.frame_names[t], torch.from_numpy(mask))
        strip.add(t, torch.from_numpy(mask))
    strip.save(folder.overlay_path("squares"))
    folder.finish(record("squares", score(1, 0.5, 0.5)))
    folder.write_tables([record("squares", score(1, 0.5, 0.5))])
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["squares"]
    assert sorted(path.stem for path in (tmp_path / "squares").iterdir()) == list(two_squares.frame_names)
    assert (tmp_path / "squares.overlay.png").is_file()


def test_without_scores_there_are_no_tables_any_more(tmp_path):
    folder = opened(tmp_path, "test-dev")
    folder.write_tables([record("dog", score(1, 0.5, 0.5))])
    assert len(list(tmp_path.glob("*.csv"))) == 2
    folder.write_tables([record("hidden")])
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.parametrize("name", ["manifest.json", "global_results-val.csv", "cat.overlay.png", "x" * 230])
def test_a_sequence_must_not_be_called_like_a_file_of_the_folder(tmp_path, make, name):
    with pytest.raises(UserError, match="cannot name a folder of results"):
        ResultsFolder(tmp_path, "val").check([make("cat"), make(name)], [])


@pytest.mark.parametrize(
    "changed",
    [
        {"record": {"num_frames": "many"}},
        {"record": {"seconds_per_frame": None}},
        {"record": {"sequence": "cat"}},
        {"pictures": ["dog/notes.txt"]},
        {"pictures": ["dog/.."]},
    ],
)
def test_a_record_that_was_edited_is_refused(tmp_path, make, changed):
    fill(opened(tmp_path), make())
    path = tmp_path / "dog.record.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, **changed, "record": values["record"] | changed.get("record", {})}))
    with pytest.raises(UserError, match=r"dog\.record\.json is not as this version of eosvos writes it"):
        ResultsFolder(tmp_path, "val").check([make()], [])


def test_a_manifest_lists_nothing_but_tables(tmp_path):
    opened(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "manifest.json").write_text(json.dumps({**MANIFEST, "tables": ["notes.txt"]}))
    with pytest.raises(UserError, match=r"manifest\.json is not as this version"):
        opened(tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
