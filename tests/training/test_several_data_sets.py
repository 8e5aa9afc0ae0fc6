"""Training, validation and evaluation on several data sets, in the official layouts."""

import csv
import json
import os
import re
import signal
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from commands import command, started, wait_for
from helpers import prepared
from PIL import Image
from small_videos import davis, youtube_vos
from test_saving import logged

from eosvos.evaluation.evaluate import evaluate
from eosvos.training.train import train

NET = (
    *("segmenter=light_deeplab", "backbone=tiny", "backbone.width=4", "meta=tiny", "finetune=quick"),
    *(
        "finetune.steps=8",
        "meta.inner_lr.init=0.1",
        "meta.batch_size=2",
        "meta.inner_steps=2",
        "iterations=4",
        "val_every=2",
    ),
    *("trainer.accelerator=cpu", "trainer.num_workers=0", "trainer.enable_progress_bar=false", "logger=csv"),
    *("final_eval.selection_videos=0", "dataset.augment.copy_paste=0.5"),
)
SETS = ("davis2017", "youtube_vos")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Command line of both data sets."""
    root = tmp_path_factory.mktemp("data")
    davis(root / "DAVIS", 40)
    youtube_vos(root / "YTVOS", 60)
    return (
        "dataset=youtube_vos_davis2017",
        f"dataset.davis2017.root={root / 'DAVIS'}",
        f"dataset.youtube_vos.root={root / 'YTVOS'}",
        "dataset.youtube_vos.held_out=2",
        "dataset.davis2017.weight=1",
        "dataset.youtube_vos.weight=3",
        "dataset.youtube_vos.frame_window=1",
    )


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A whole run in one process: its folder, and what it returns."""
    folder = tmp_path_factory.mktemp("run") / "run"
    return folder, train(*prepared(*data, *NET, "trainer.devices=1", output=folder))


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def validations(folder):
    """J, F and J&F at each validation."""
    with open(folder / "csv/metrics.csv") as lines:
        rows = [
            {k: float(v) for k, v in row.items() if re.match("val/.*[JF]$", k) and v}
            for row in csv.DictReader(lines)
        ]
    return list(filter(None, rows))


def sequences(folder):
    """The tables of all validations, without seconds."""
    tables = []
    for path in sorted((folder / "validation").glob("*/sequences.csv")):
        with open(path) as table:
            rows = list(csv.DictReader(table))
        tables.append([{key: value for key, value in row.items() if "s/" not in key} for row in rows])
    return tables


def test_a_validation_leaves_a_table_and_pictures_of_every_data_set(run):
    folder, _ = run
    first, last = sequences(folder)
    assert [row["data set"] for row in first] == [name for name in SETS for _ in range(2)]
    assert first != last
    for name in SETS:
        of_set = [row["sequence"] for row in last if row["data set"] == name]
        assert {path.stem for path in (folder / "validation/000004" / name).glob("*.jpg")} == set(of_set)


def test_every_data_set_is_validated_on_and_the_mean_is_over_them(run):
    folder, _ = run
    found = validations(folder)
    assert len(found) == 2
    for row in found:
        assert len(row) == 9
        assert row["val/davis2017/J"] != row["val/youtube_vos/J"]
        for measure in ("J", "F", "J&F"):
            of_sets = [row[f"val/{name}/{measure}"] for name in SETS]
            assert row[f"val/{measure}"] == pytest.approx(sum(of_sets) / 2)


def test_there_is_a_best_checkpoint_by_the_mean_and_by_each_data_set(run):
    folder, _ = run
    checkpoints = {path.name for path in (folder / "checkpoints").glob("*.ckpt")}
    assert checkpoints == {"last.ckpt", "best.ckpt", "best-davis2017.ckpt", "best-youtube_vos.ckpt"}
    callbacks = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["callbacks"].values()
    best = {one["monitor"]: float(one["best_model_score"]) for one in callbacks if "monitor" in one}
    rows = validations(folder)
    monitored = ["val/J&F", "val/davis2017/J&F", "val/youtube_vos/J&F"]
    assert best == pytest.approx({name: max(row[name] for row in rows) for name in monitored})


def test_the_final_evaluation_reports_each_data_set(run):
    folder, result = run
    assert [(row.name, row.dataset, len(row.records)) for row in result.rows] == [
        ("meta-learned", name, 2) for name in SETS
    ]
    assert set(result.metrics) == {f"meta-learned, {name}" for name in SETS}
    report = json.loads((folder / "report.json").read_text())
    assert [row["dataset"] for row in report] == list(SETS)
    table = (folder / "report.md").read_text()
    assert "data set" in table
    assert (folder / "results/davis2017/global_results-val.csv").is_file()
    assert len(list((folder / "results/youtube_vos").glob("v*.record.json"))) == 2


@pytest.mark.slow
def test_two_processes_killed_and_resumed_do_what_one_does(run, data, tmp_path):
    """Meta-training, its validations on both sets, and the submission that its best checkpoint makes."""
    reference, resumed = run[0], tmp_path / "resumed"
    last = tmp_path / "two/checkpoints/last.ckpt"
    words = [*data, *NET, "trainer.devices=2"]
    process = started(tmp_path, "train.py", *words, "hydra.run.dir=two", group=True)
    wait_for(last, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert torch.load(last, weights_only=True)["iteration"] == 2
    again = (f"checkpoint={last}", "resume=true", "hydra.run.dir=resumed")
    done = command(tmp_path, "train.py", *words, *again)
    assert done.returncode == 0, done.stderr
    for name in ("last", "best", *(f"best-{name}" for name in SETS)):
        one, other = (weights(of / f"checkpoints/{name}.ckpt") for of in (reference, resumed))
        torch.testing.assert_close(one, other)
    alone, together = (logged(of / "csv/metrics.csv") for of in (reference, resumed))
    alone, together = ([float(log[i]["meta/query_loss"]) for i in (2, 3)] for log in (alone, together))
    assert alone == pytest.approx(together)
    parts = [*sequences(tmp_path / "two")[:1], *sequences(resumed)]
    for one, other in zip(parts, sequences(reference), strict=True):
        assert [row["sequence"] for row in one] == [row["sequence"] for row in other]
        for name in ("J", "F"):
            values = ([float(row[name]) for row in table] for table in (one, other))
            assert next(values) == pytest.approx(next(values), abs=2e-3)
    assert (resumed / "results/youtube_vos/manifest.json").is_file()
    root = next(word.removeprefix("dataset.youtube_vos.root=") for word in data if "youtube_vos.root" in word)
    words = ("dataset=youtube_vos", f"dataset.root={root}", "dataset.test.split=valid")
    words += ("dataset.test.part=null", "finetune=quick", "submission=true", f"results={tmp_path}/out")
    evaluate(
        *prepared(
            *words, f"checkpoint={resumed}/checkpoints/best.ckpt", entry="evaluate", output=tmp_path / "run"
        )
    )
    with ZipFile(tmp_path / "out/submission-valid.zip") as archive:
        masks = {name: np.asarray(Image.open(archive.open(name))) for name in archive.namelist()}
    assert set(masks) == {f"Annotations/w{i}/{t:05d}.png" for i in range(2) for t in range(3)}
    for number in range(2):
        # The mask that is given, of as many objects.
        assert set(np.unique(masks[f"Annotations/w{number}/00000.png"])) == set(range(number + 2))
        assert all(masks[f"Annotations/w{number}/{t:05d}.png"].shape == (32, 48) for t in range(3))


def test_evaluation_keeps_videos_of_one_name_apart(run, tmp_path):
    """Two data sets with the same names: each has its folder in the official layout, and is gone on with."""
    roots = {"light": 30, "dark": 90}
    for name, light in roots.items():
        davis(tmp_path / name, light)
    sets = [f"+dataset@dataset.{name}=davis2017" for name in roots]
    roots_of = [f"dataset.{name}.root={tmp_path / name}" for name in roots]
    settings = ["dataset=mixture", *sets, *roots_of, f"checkpoint={run[0] / 'checkpoints/best.ckpt'}"]
    settings += ["finetune=quick", f"results={tmp_path / 'out'}", "overwrite=false"]

    def again(number):
        return evaluate(*prepared(*settings, entry="evaluate", output=tmp_path / f"run{number}"))

    rows = again(0)
    assert [row.dataset for row in rows] == ["dark", "light"]
    for name in roots:
        of_set = tmp_path / "out" / name
        assert {path.name for path in of_set.iterdir() if path.is_dir()} == {"fox", "hen"}
        assert len(list((of_set / "fox").glob("*.png"))) == 3
        assert (of_set / "per-sequence_results-val.csv").read_text().count("hen_") == 2
    [dark, light] = [(tmp_path / "out" / name / "fox.record.json").read_text() for name in ("dark", "light")]
    assert json.loads(dark)["fingerprint"] != json.loads(light)["fingerprint"]
    assert all(record.finished_before for row in again(1) for record in row.records)
    table = (tmp_path / "run0/report.md").read_text()
    assert table.count("| fox ") == 2
