"""Files of an evaluation: what other tools read, and what an interrupted evaluation goes on from."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from eosvos.errors import UserError
from eosvos.evaluation.metrics import ObjectScore, Statistics
from eosvos.evaluation.overlay import OverlayStrip
from eosvos.evaluation.results import ResultsFolder, SequenceRecord, davis_palette
from eosvos.writing import write_whole

MANIFEST = {"checkpoint": "abc", "finetune": {"steps": 10, "online": {"every": 5}}, "segmenter": "tiny"}


def score(object_id: int, j: float, f: float) -> ObjectScore:
    return ObjectScore(object_id, Statistics(j, 0.5, 0.125), Statistics(f, 0.25, -0.5), (j, j), (f, f))


def record(sequence: str, *scores: ObjectScore) -> SequenceRecord:
    return SequenceRecord(sequence, 4, scores or None, 1.25, 0.5)


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
    ResultsFolder(tmp_path, "val", MANIFEST).write_frame("dog", "00007", labels)
    with Image.open(tmp_path / "dog/00007.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image), labels.numpy())
        assert image.getpalette()[3:6] == [128, 0, 0]
    assert [path.name for path in (tmp_path / "dog").iterdir()] == ["00007.png"]


@pytest.mark.parametrize("scores", [(), (score(1, 0.1, 1 / 3),), (score(1, 0.5, 0.6), score(7, 0.0, 1.0))])
def test_record_round_trip_through_json(scores):
    one = record("dog", *scores)
    assert SequenceRecord.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_a_sequence_is_finished_only_by_its_marker(tmp_path):
    folder = ResultsFolder(tmp_path, "val", MANIFEST)
    folder.write_frame("dog", "00000", torch.zeros(4, 4, dtype=torch.uint8))
    assert folder.finished("dog") is None
    folder.finish("dog", record("dog", score(1, 0.5, 0.5)))
    again = ResultsFolder(tmp_path, "val", MANIFEST)
    assert again.finished("dog") == record("dog", score(1, 0.5, 0.5))
    assert again.finished("cat") is None


def test_another_manifest_is_refused_and_told_apart(tmp_path):
    ResultsFolder(tmp_path, "val", MANIFEST).finish("dog", record("dog"))
    other = {**MANIFEST, "finetune": {"steps": 50, "online": {"every": 5}}, "extra": True}
    with pytest.raises(UserError) as error:
        ResultsFolder(tmp_path, "val", other)
    message = str(error.value)
    assert str(tmp_path) in message
    assert "finetune.steps is 10 there and 50 here" in message
    assert "extra is None there and True here" in message
    assert "overwrite=true" in message
    assert "segmenter" not in message
    assert "online" not in message


def test_overwrite_starts_anew(tmp_path):
    folder = ResultsFolder(tmp_path, "val", MANIFEST)
    folder.finish("dog", record("dog", score(1, 0.5, 0.5)))
    folder.write_tables([record("dog", score(1, 0.5, 0.5))])
    folder.write_frame("dog", "00000", torch.zeros(2, 2, dtype=torch.uint8))
    for name in ("dog.overlay.png", "other/00000.png"):
        write_whole(tmp_path / name, b"a picture")
    other = {**MANIFEST, "checkpoint": "def"}
    assert ResultsFolder(tmp_path, "val", other, overwrite=True).finished("dog") is None
    assert not list(tmp_path.glob("*.csv"))
    # What no finished sequence has written may be someone else's.
    assert [path.name for path in tmp_path.rglob("*.png")] == ["00000.png"]
    assert (tmp_path / "other/00000.png").exists()
    assert ResultsFolder(tmp_path, "val", other).finished("dog") is None
    with pytest.raises(UserError, match="checkpoint is 'def' there and 'abc' here"):
        ResultsFolder(tmp_path, "val", MANIFEST)


def test_manifest_values_compare_as_they_are_stored(tmp_path):
    """Tuples become lists in JSON; that is no difference."""
    ResultsFolder(tmp_path, "val", {"anchors": (1, 2)})
    ResultsFolder(tmp_path, "val", {"anchors": [1, 2]})


def test_pictures_of_unknown_origin_are_not_overwritten(tmp_path):
    write_whole(tmp_path / "dog/00000.png", b"someone's picture")
    with pytest.raises(UserError, match="without a manifest"):
        ResultsFolder(tmp_path, "val", MANIFEST)
    ResultsFolder(tmp_path, "val", MANIFEST, overwrite=True)


def test_broken_manifest_and_broken_marker_are_named(tmp_path):
    folder = ResultsFolder(tmp_path, "val", MANIFEST)
    (tmp_path / "dog.finished.json").write_text('{"sequence": "dog"')
    with pytest.raises(UserError, match=r"dog\.finished\.json"):
        folder.finished("dog")
    (tmp_path / "dog.finished.json").write_text('{"sequence": "dog", "scores": null}')
    with pytest.raises(UserError, match=r"dog\.finished\.json"):
        folder.finished("dog")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json is not JSON"):
        ResultsFolder(tmp_path, "val", MANIFEST)


def test_official_tables(tmp_path):
    folder = ResultsFolder(tmp_path, "val", MANIFEST)
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
    ResultsFolder(tmp_path, "multi", MANIFEST).write_tables(records)
    with open(tmp_path / "global_results-multi.csv") as file:
        (row,) = csv.DictReader(file)
    assert row["J&F-Mean"] == f"{expected['global_']['J&F']:.3f}"
    for measure in ("J", "F"):
        for statistic in ("mean", "recall", "decay"):
            assert row[f"{measure}-{statistic.title()}"] == f"{expected['global_'][measure][statistic]:.3f}"


def test_the_only_folders_are_sequences(two_squares, tmp_path):
    """vos-benchmark takes every folder for a sequence, and every file in one for a frame."""
    folder = ResultsFolder(tmp_path, "val", MANIFEST)
    strip = OverlayStrip(two_squares)
    for t, mask in enumerate(two_squares.masks):
        folder.write_frame("squares", two_squares.frame_names[t], torch.from_numpy(mask))
        strip.add(t, torch.from_numpy(mask))
    strip.save(folder.overlay_path("squares"))
    folder.finish("squares", record("squares", score(1, 0.5, 0.5)))
    folder.write_tables([record("squares", score(1, 0.5, 0.5))])
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["squares"]
    assert sorted(path.stem for path in (tmp_path / "squares").iterdir()) == list(two_squares.frame_names)
    assert (tmp_path / "squares.overlay.png").is_file()


def test_without_scores_there_are_no_tables(tmp_path):
    ResultsFolder(tmp_path, "test-dev", MANIFEST).write_tables([record("hidden")])
    assert not list(tmp_path.glob("*.csv"))
