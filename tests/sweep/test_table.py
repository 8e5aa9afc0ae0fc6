"""The table of a sweep's jobs: mean and deviation over seeds, the best, and those that failed."""

import csv
import json
import math
from dataclasses import replace

import pytest

from eosvos.errors import JobsFailedError
from eosvos.sweep.table import Job, compare_jobs, summary


def job(folder, *overrides, score=None, validation=None):
    """A job that has reached these J&F; without a score it has failed."""
    folder = folder / "-".join(overrides)
    (folder / "checkpoints").mkdir(parents=True)
    if validation is not None:
        (folder / "checkpoints" / "best.json").write_text(json.dumps({"val/J&F": validation}))
    if score is not None:
        rows = [{"name": "initialisation", "J&F": 0.0}, {"name": "meta-learned", "J": 0.5, "J&F": score}]
        (folder / "report.json").write_text(json.dumps(rows))
    return Job(overrides, folder)


@pytest.fixture
def jobs(tmp_path):
    """Two settings with two seeds each; a job failed; the better on validation is worse finally."""
    scores = {("a=1", "seed=0"): (0.5, 0.6), ("a=1", "seed=1"): (0.7, 0.8), ("a=2", "seed=0"): (0.9, 0.1)}
    done = [
        job(tmp_path, "b=3", *words, score=score, validation=best) for words, (score, best) in scores.items()
    ]
    return [*done, job(tmp_path, "b=3", "a=2", "seed=1")]


def test_jobs_that_differ_in_their_seed_are_one_line(jobs):
    first, second = summary(jobs)
    assert (first["settings"], first["seeds"]) == ("a=1", ["0", "1"])
    assert (first["J&F"], first["val/J&F"]) == (pytest.approx(0.6), pytest.approx(0.7))
    # Of a sample: sqrt((0.1^2 + 0.1^2) / 1).
    assert first["J&F SD"] == pytest.approx(math.sqrt(0.02))
    assert (second["J&F"], second["J&F SD"]) == (0.9, None)
    assert (first["failed"], second["failed"]) == (0, 1)


def test_the_best_is_so_on_the_videos_to_choose_by(jobs):
    assert [line["best"] for line in summary(jobs)] == [True, False]
    for one in jobs:
        (one.folder / "checkpoints" / "best.json").unlink(missing_ok=True)
    assert [line["best"] for line in summary(jobs)] == [False, True]


def test_it_is_printed_and_written_and_failures_are_counted(jobs, tmp_path, capsys):
    with pytest.raises(JobsFailedError, match="1"):
        compare_jobs(jobs, tmp_path)
    assert "0.700 ± 0.141" in capsys.readouterr().out
    assert json.loads((tmp_path / "sweep.json").read_text()) == summary(jobs)
    assert "0.700 ± 0.141" in (tmp_path / "sweep.md").read_text()
    with open(tmp_path / "sweep.csv") as lines:
        assert [line["val/J&F"] for line in csv.DictReader(lines)] == ["0.700", "0.100"]
    compare_jobs(jobs[:2], tmp_path)


def test_a_pruned_job_has_not_failed(jobs, tmp_path):
    ended = replace(job(tmp_path, "b=3", "a=3"), pruned=True)
    compare_jobs([*jobs[:2], ended], tmp_path)
    assert [(line["failed"], line["pruned"]) for line in summary([*jobs, ended])] == [(0, 0), (1, 0), (0, 1)]
    assert "pruned" in (tmp_path / "sweep.md").read_text()


def test_jobs_without_videos_to_test_on_have_not_failed(tmp_path):
    first, second = (job(tmp_path, f"seed={seed}") for seed in (1, 2))
    for one in (first, second):
        (one.folder / "report.json").write_text("[]")
    compare_jobs([first, second], tmp_path)
    [line] = summary([first, second])
    assert (line["jobs"], line["failed"], line["J&F"]) == (2, 0, None)
