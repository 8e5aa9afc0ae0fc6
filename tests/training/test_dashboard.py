"""TensorBoard, W&B and the CSV log get the same, under the names of docs/dashboard.md."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import wandb
from helpers import LIGHT, ROOT, SMALL, prepared
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb_file import configuration, history, records

from eosvos.evaluation.provenance import git_state
from eosvos.meta.learner import MetaGradient
from eosvos.training.dashboard import picture_name
from eosvos.training.train import train
from eosvos.writing import write_whole

ROWS = re.findall(r"^\| `(\S+)` \| (\w+) \|", (ROOT / "docs/dashboard.md").read_text(), flags=re.MULTILINE)
OF_LOGGERS = {"step", "trainer/global_step", "_step", "_runtime", "_timestamp"}
"""What loggers themselves add."""
SEVERAL = "SET"
"""A part of those names that only several data sets have; their own test has them."""


def documented(kind: str) -> dict[str, str]:
    """The names of a kind, each with a pattern in which words in capitals stand for others."""
    return {name: re.sub(r"\b[A-Z]{3,}\b", r"[^/]+", name) for name, of in ROWS if of == kind}


def assert_documented(names: set[str], kind: str) -> None:
    """All names are documented as of a kind, and all documented ones are there, but those of several sets."""
    patterns = documented(kind)
    assert not [name for name in names if not any(re.fullmatch(p, name) for p in patterns.values())]
    missing = [n for n, p in patterns.items() if not any(re.fullmatch(p, name) for name in names)]
    assert not [name for name in missing if SEVERAL not in name.split("/")]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that logs to all: two parent steps, two iterations, two validations.

    The last of its four tasks is left out.
    """
    folder = tmp_path_factory.mktemp("run")
    logging = ("logger=[csv,tensorboard,wandb]", "logger.wandb.log_model=true")
    length = ("iterations=2", "val_every=1", "parent.steps=2", "val_visualisations=1")
    with pytest.MonkeyPatch.context() as patch:
        # With offline=true Lightning refuses to keep artifacts, which W&B itself does.
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        finite = iter([True, True, True, False])
        patch.setattr(MetaGradient, "is_finite", lambda gradient: next(finite))
        train(*prepared(*SMALL, LIGHT, *length, "dataset.val.num_videos=2", *logging, output=folder))
    # Otherwise the process would remember to be offline.
    wandb.teardown()
    return folder


def lines(folder: Path) -> list[dict[str, str]]:
    with open(folder / "csv/metrics.csv") as log:
        return [{name: value for name, value in line.items() if value} for line in csv.DictReader(log)]


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(
        str(folder / "tensorboard"), {"images": 0, "tensors": 0, "histograms": 0}
    ).Reload()


def test_the_csv_log_has_the_figures(run):
    names = {name for line in lines(run) for name in line}
    assert_documented(names - OF_LOGGERS - {"meta/left_out_tasks"}, "figure")


def test_tensorboard_has_it_all(run):
    tags = events(run).Tags()
    assert_documented(set(tags["scalars"]), "figure")
    assert_documented(set(tags["histograms"]), "histogram")
    assert_documented(set(tags["images"]), "picture")
    texts = {tag.removesuffix("/text_summary") for tag in tags["tensors"]}
    tables = set(documented("table"))
    assert tables <= texts
    assert_documented(texts - tables, "text")


def test_wandb_has_it_all(run):
    kinds = history(run / "wandb")
    assert_documented({name for name, kind in kinds.items() if kind == "figure"} - OF_LOGGERS, "figure")
    for kind, its in (("histogram", "histogram"), ("table", "table-file"), ("picture", "images/separated")):
        assert_documented({name for name, of in kinds.items() if of == its}, kind)
    assert {name for name, kind in kinds.items() if kind == "text"} == {"meta/left_out_tasks"}
    assert set(kinds.values()) == {"figure", "text", "histogram", "table-file", "images/separated"}


def test_the_loggers_have_the_same_figures(run):
    board = events(run)
    for line in lines(run):
        for name in line.keys() - {"step", "meta/left_out_tasks"}:
            [value] = [event.value for event in board.Scalars(name) if event.step == int(line["step"])]
            assert value == pytest.approx(float(line[name]), rel=1e-5)


def test_they_know_what_the_run_is(run):
    known = configuration(run / "wandb")
    assert known["git"] == git_state() == json.loads((run / "run.json").read_text())["git"]
    assert known["meta"]["inner_steps"] == 2
    [text] = [
        tensor.tensor_proto.string_val[0].decode() for tensor in events(run).Tensors("run/text_summary")
    ]
    assert "inner_steps: 2" in text
    assert str((known["git"] or {}).get("revision")) in text


def test_wandb_keeps_the_best_checkpoint_where_that_is_wished(run):
    kept = [record.artifact for record in records(run / "wandb") if record.artifact.type == "model"]
    assert kept
    assert {entry.path for artifact in kept for entry in artifact.manifest.contents} <= {"model.ckpt"}


def test_a_left_out_task_is_named(run):
    assert [line["meta/nonfinite_tasks"] for line in lines(run) if "meta/seconds" in line] == ["0.0", "1.0"]
    [(step, name)] = [
        (line["step"], line["meta/left_out_tasks"]) for line in lines(run) if "meta/left_out_tasks" in line
    ]
    assert step == "1"
    assert re.fullmatch(r"synthetic-\d+:\d", name)
    [text] = events(run).Tensors("meta/left_out_tasks/text_summary")
    assert (text.step, text.tensor_proto.string_val) == (1, [name.encode()])


def test_every_validation_leaves_tables_and_pictures(run):
    folders = sorted((run / "validation").iterdir())
    assert [folder.name for folder in folders] == ["000001", "000002"]
    validations = [line for line in lines(run) if "val/J" in line]
    for folder, logged in zip(folders, validations, strict=True):
        with open(folder / "sequences.csv") as table:
            rows = list(csv.DictReader(table))
        assert len(rows) == 2
        objects = [int(row["objects"]) for row in rows]
        for name in ("J", "F", "J&F"):
            mean = np.average([float(row[name]) for row in rows], weights=objects)
            assert mean == pytest.approx(float(logged[f"val/{name}"]), abs=1e-3)
        # Of as many as val_visualisations says: the first.
        [picture] = folder.glob("*.jpg")
        assert picture.stem == rows[0]["sequence"]
        shown = Image.open(picture).size
        [tag] = events(run).Tags()["images"]
        assert [(image.width, image.height) for image in events(run).Images(tag)] == [shown] * 2


def test_the_table_of_inner_learning_rates_has_their_quantiles(run):
    last = [line for line in lines(run) if "inner_lr/mean" in line][-1]
    with open(run / "validation/000002/inner_lr.csv") as table:
        rows = {row.pop("block"): [float(value) for value in row.values()] for row in csv.DictReader(table)}
    assert {f"inner_lr/{block}" for block in rows} == {
        name for name in last if name.startswith("inner_lr/")
    } - {"inner_lr/mean"}
    for block, quantiles in rows.items():
        assert quantiles == sorted(quantiles)
        assert quantiles[0] <= float(last[f"inner_lr/{block}"]) * 1.001
        assert quantiles[-1] >= float(last[f"inner_lr/{block}"]) * 0.999


def test_a_picture_has_a_name_of_its_own_that_file_systems_take(tmp_path):
    names = ["a/b c", "\u7334" * 28, "\u7334" * 85, "\u7334" * 84 + "\u9e1f"]
    for name in names:
        write_whole(tmp_path / picture_name(name), b"")
    assert len(list(tmp_path.iterdir())) == len(names)
    assert (tmp_path / "a%2Fb c.jpg").exists()
