"""What evaluate.py writes, scored by other tools: vos-benchmark, and the package davis2017 on demand."""

import csv
import json
import os
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from helpers import LIGHT, prepared
from PIL import Image
from vos_benchmark.benchmark import benchmark
from vos_benchmark.evaluator import Evaluator

from eosvos.errors import UserError
from eosvos.evaluation.evaluate import evaluate
from eosvos.inference.predictor import Predictor
from eosvos.inference.timing import Timing

NETS = (LIGHT, "backbone=tiny", "backbone.width=8", "backbone.fpn_channels=16", "trainer=cpu", "logger=csv")
SIZES = {"cat": (40, 60), "two": (60, 40)}
STAND_IN = '''
"""The interface of davis2017-evaluation, on vos-benchmark's measures."""
import os
import numpy as np
from PIL import Image
from vos_benchmark.evaluator import Evaluator


class DAVISEvaluation:
    def __init__(self, davis_root, task, gt_set, sequences="all", codalab=False):
        assert task == "semi-supervised" and isinstance(sequences, list)
        with open(f"{davis_root}/ImageSets/2017/{gt_set}.txt") as listed:
            assert set(sequences) <= set(listed.read().split())
        self.masks, self.sequences = f"{davis_root}/Annotations/480p", sequences

    def evaluate(self, res_path, metric=("J", "F"), debug=False):
        found = {name: {"M": [], "R": [], "D": [], "M_per_object": {}} for name in "JF"}
        for sequence in self.sequences:
            evaluator = Evaluator()
            for frame in sorted(os.listdir(f"{self.masks}/{sequence}"))[1:-1]:
                pair = [np.array(Image.open(f"{top}/{sequence}/{frame}")) for top in (res_path, self.masks)]
                evaluator.feed_frame(*pair)
            for name, values in (("J", evaluator.object_iou), ("F", evaluator.boundary_f)):
                for object_id in sorted(evaluator.objects_in_gt):
                    of_object = np.array(values[object_id])
                    found[name]["M"].append(of_object.mean())
                    found[name]["R"].append((of_object > 0.5).mean())
                    found[name]["D"].append(0.25)
                    found[name]["M_per_object"][f"{sequence}_{object_id}"] = of_object.mean()
        return found
'''


class Shifting(Predictor):
    """Finds every object where it is, but a few pixels away, and forgets the last one now and then."""

    def segment(self, sequence, video=None):
        self.timing = Timing()
        for t, name in enumerate(sequence.frame_names):
            labels = torch.roll(sequence.mask(t), (t % 3, 2), (0, 1))
            labels[labels == 3] *= t % 4 != 2
            yield name, labels


@pytest.fixture
def davis(disk):
    """DAVIS 2017: two videos of three objects, of which the first is gone after a while."""
    for name, size in SIZES.items():
        for t in range(8):
            labels, height = np.zeros(size, np.uint8), size[0] // 4
            labels[4 : 4 + height, 2 + t : 14 + t] = 1 if t < 5 else 0
            labels[10 : 12 + height, 8:20] = 2
            labels[20 : 15 + height + t, 20:30] = 3
            disk.frame(f"JPEGImages/480p/{name}/{t:05d}.jpg", size, 30 * t)
            disk.mask(f"Annotations/480p/{name}/{t:05d}.png", labels)
    disk.text("ImageSets/2017/val.txt", "cat\ntwo\n")
    disk.text("ImageSets/2017/test-dev.txt", "cat\ntwo\n")
    return disk


@pytest.fixture
def run(davis, monkeypatch):
    monkeypatch.setattr("eosvos.evaluation.evaluate.Predictor", Shifting)

    def evaluated(*overrides):
        data = "dataset=davis2017", f"dataset.root={davis.root}", f"results={davis.root}/out"
        settings = (*NETS, *data, *overrides)
        return evaluate(*prepared(*settings, entry="evaluate", output=davis.root / "run"))[0].records

    return evaluated


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Puts a package of the official tool's name on the path."""

    def put(source=STAND_IN):
        folder = tmp_path / "tools/davis2017"
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / "evaluation.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path / "tools")
        for name in [name for name in sys.modules if name.partition(".")[0] == "davis2017"]:
            monkeypatch.delitem(sys.modules, name)

    yield put
    for name in [name for name in sys.modules if name.partition(".")[0] == "davis2017"]:
        del sys.modules[name]


def means(records):
    """J and F by sequence and object."""
    return {
        (record.sequence, score.object_id): (score.region.mean, score.boundary.mean)
        for record in records
        for score in record.scores
    }


def test_vos_benchmark_gives_the_same_scores_to_the_folder(run, davis, monkeypatch):
    ours = means(run())
    monkeypatch.setattr("builtins.print", lambda *_, **__: None)
    theirs = benchmark(
        [davis.root / "Annotations/480p"], [davis.root / "out"], num_processes=1, verbose=False
    )
    _, [j], [f], [objects] = theirs
    found = {
        (name, object_id): (values[object_id] / 100, of_boundary[object_id] / 100)
        for name, (values, of_boundary) in objects.items()
        for object_id in values
    }
    assert found.keys() == ours.keys() == {(name, i) for name in SIZES for i in (1, 2, 3)}
    for key, values in ours.items():
        assert values == pytest.approx(found[key], abs=1e-6)
    assert len(set(ours.values())) == 6
    assert all(0 < value < 1 for values in ours.values() for value in values)
    assert np.mean(list(ours.values()), axis=0) == pytest.approx([j / 100, f / 100], abs=1e-6)


def test_late_many_and_oddly_numbered_objects_are_written_and_scored(disk, monkeypatch):
    """Twenty-two objects at once, one that appears in the third frame, and one in the last frame alone."""
    monkeypatch.setattr("eosvos.evaluation.evaluate.Predictor", Shifting)
    ids, size, truth = [5, *range(10, 94, 4), 200, 254], (48, 64), []
    for t in range(6):
        shown = [i for i in ids if (i != 200 or t >= 2) and (i != 254 or t == 5)]
        labels = np.zeros(size, np.uint8)
        for place, object_id in enumerate(ids):
            top, left = 9 * (place // 6), 10 * (place % 6)
            labels[top + t // 2 : top + 7, left + 1 : left + 9] = object_id if object_id in shown else 0
        truth.append(labels)
        disk.frame(f"train/JPEGImages/zoo/{t:05d}.jpg", size, 30 * t)
        disk.mask(f"train/Annotations/zoo/{t:05d}.png", labels)
    objects = {str(i): {"category": "ape", "frames": [f"{t:05d}" for t in range(6)]} for i in ids}
    disk.text("train/meta.json", json.dumps({"videos": {"zoo": {"objects": objects}}}))
    data = "dataset=youtube_vos", f"dataset.root={disk.root}", "dataset.test.part=null"
    settings = *NETS, *data, f"results={disk.root}/out"
    [record] = evaluate(*prepared(*settings, entry="evaluate", output=disk.root / "run"))[0].records

    written = [np.array(Image.open(disk.root / f"out/zoo/{t:05d}.png")) for t in range(6)]
    for t, labels in enumerate(written):
        assert np.array_equal(labels, np.roll(truth[t], (t % 3, 2), (0, 1)))
    scores = {score.object_id: score for score in record.scores}
    assert list(scores) == ids[:-1]
    for object_id, score in scores.items():
        evaluator = Evaluator()
        for t in (3, 4) if object_id == 200 else (1, 3, 4):
            evaluator.feed_frame(*(labels[t] * (labels[t] == object_id) for labels in (written, truth)))
        region, boundary = ([one[object_id] / 100] for one in evaluator.conclude())
        assert [score.region.mean] == pytest.approx(region, abs=1e-6)
        assert [score.boundary.mean] == pytest.approx(boundary, abs=1e-6)
        assert 0 < score.region.mean < 1


@pytest.mark.parametrize("real", [False, True])
def test_the_official_tool_scores_the_masks_on_demand(run, davis, stand_in, capsys, real):
    if not real:
        stand_in()
    elif find_spec("davis2017") is None:
        pytest.skip("needs the official DAVIS tool, the package davis2017")
    ours = run()
    official = run("evaluator=davis2017")
    assert all(record.finished_before for record in official)
    for key, values in means(official).items():
        assert values == pytest.approx(means(ours)[key], abs=1e-6)
    assert means(official).keys() == means(ours).keys()
    assert "scored by davis2017" in capsys.readouterr().out
    decay = float(next(csv.DictReader((davis.root / "out/global_results-val.csv").open()))["J-Decay"])
    assert real or decay == 0.25
    assert [record.scores for record in run()] == [record.scores for record in ours]


def test_without_the_tool_the_mend_is_said_before_work(run, davis, monkeypatch):
    monkeypatch.setitem(sys.modules, "davis2017", None)
    with pytest.raises(
        UserError, match=r"install it, pip install git\+https://github.com/davisvideochallenge"
    ):
        run("evaluator=davis2017")
    assert not os.path.exists(davis.root / "out")


@pytest.mark.parametrize("failure", ["import sys; sys.exit()", "raise AttributeError('np.bool')"])
def test_a_tool_that_fails_is_one_sentence_and_leaves_what_is_segmented(run, davis, stand_in, failure):
    body = f"class DAVISEvaluation:\n    def __init__(self, *_, **__):\n        {failure}\n"
    stand_in(body)
    with pytest.raises(UserError, match=r"the official DAVIS tool cannot score .*out .*: mend the tool"):
        run("evaluator=davis2017")
    assert all(record.finished_before for record in run())


@pytest.mark.parametrize(
    "setting",
    [
        "dataset=davis2016",
        "dataset.test.split=test-dev",
        "dataset.test.split=null",
        "dataset.test.short_side=16",
        "dataset.resolution=480p/../480p",
    ],
)
def test_what_the_tool_does_not_read_is_refused_before_work(run, davis, stand_in, setting):
    stand_in()
    davis.text("ImageSets/2016/val.txt", "cat\n")
    with pytest.raises(UserError, match="evaluator=davis2017 scores DAVIS 2017 alone"):
        run(setting, "evaluator=davis2017")
    assert not os.path.exists(davis.root / "out")
