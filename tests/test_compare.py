"""Paired differences between made reports: closed forms of mean and standard error."""

import csv
import json
import math

import pytest
from helpers import config

from eosvos.compare import compare, main, paired_difference, read_settings
from eosvos.errors import UserError
from eosvos.evaluation.provenance import record_run

DIFFERENCES = {"a": 0.1, "b": 0.2, "c": 0.6}
"""Of J, between the second setting and the first; F is lower by half of it."""


def run(folder, scores, *overrides, row="meta-learned"):
    """A run whose report has these J and F by sequence."""
    record_run(config(*overrides, output=folder))
    records = [
        {"sequence": name, "scores": [{"region": {"mean": j}, "boundary": {"mean": f}}] if j >= 0 else None}
        for name, (j, f) in scores.items()
    ]
    report = [{"name": "initialisation", "records": []}, {"name": row, "records": records}]
    (folder / "report.json").write_text(json.dumps(report[::-1] if row != "meta-learned" else report))
    return folder


@pytest.fixture
def runs(tmp_path):
    """Two seeds of one setting, which average to 0.3, and a run of another with a sequence more."""
    seeds = [
        run(tmp_path / str(seed), dict.fromkeys("abc", (j, j)), f"seed={seed}")
        for seed, j in enumerate((0.2, 0.4))
    ]
    better = {name: (0.3 + change, 0.3 - change / 2) for name, change in DIFFERENCES.items()}
    other = run(tmp_path / "other", {"unmasked": (-1, 0), "more": (1, 1), **better}, "meta.inner_steps=2")
    return [*seeds, other]


def test_mean_and_standard_error_of_paired_differences(runs):
    first, second = read_settings(runs)
    assert (first.folders, second.folders) == (tuple(runs[:2]), (runs[2],))
    assert list(first.scores) == ["a", "b", "c"]
    mean, error = paired_difference(second, first)
    # Mean 0.3, deviations -0.2, -0.1 and 0.3: the variance of a sample is 0.14 / 2.
    expected = math.sqrt(0.07 / 3)
    assert mean == pytest.approx([0.3, -0.15, 0.075])
    assert error == pytest.approx([expected, expected / 2, expected / 4])


def test_a_run_that_was_resumed_is_one_of_its_setting(tmp_path):
    (tmp_path / "last.ckpt").touch()
    resumed = run(tmp_path / "2", {"a": (1, 1)}, "seed=2", f"checkpoint={tmp_path}/last.ckpt", "resume=true")
    others = [run(tmp_path / str(seed), {"a": (0, 0)}, f"seed={seed}") for seed in (0, 1)]
    longer = run(tmp_path / "longer", {"a": (0, 0)}, "iterations=7")
    assert read_settings([*others, resumed, longer])[0].folders == (*others, resumed)


def test_a_run_that_was_resumed_keeps_the_checkpoint_that_it_began_with(tmp_path):
    (tmp_path / "parent.ckpt").touch()
    start = f"checkpoint={tmp_path}/parent.ckpt"
    begun = [run(tmp_path / str(seed), {"a": (0, 0)}, f"seed={seed}", start) for seed in (0, 1)]
    scratch = run(tmp_path / "scratch", {"a": (1, 1)})
    last = tmp_path / "1/checkpoints/last.ckpt"
    last.parent.mkdir()
    last.touch()
    for folder in (tmp_path / "1", tmp_path / "elsewhere"):
        resumed = run(folder, {"a": (0, 0)}, "seed=1", f"checkpoint={last}", "resume=true")
        settings = read_settings([begun[0], resumed, scratch])
        assert [setting.folders for setting in settings] == [(begun[0], resumed), (scratch,)]
    (resumed / "run.json").unlink()
    assert len(read_settings([begun[0], resumed])) == 2, "nobody knows with what it began"


def test_runs_in_another_precision_are_of_another_setting(tmp_path):
    plain = run(tmp_path / "plain", {"a": (0, 0)}, "trainer.num_workers=0")
    same = run(tmp_path / "same", {"a": (0, 0)}, "seed=1", "trainer.num_workers=1")
    half = run(tmp_path / "half", {"a": (1, 1)}, "trainer.precision=bf16-mixed")
    assert [one.folders for one in read_settings([plain, same, half])] == [(plain, same), (half,)]


def test_tables_and_plot(runs, tmp_path, capsys):
    out = tmp_path / "out"
    main([*map(str, runs), "--out", str(out)])
    assert "0.300 ± 0.153" in capsys.readouterr().out
    assert "0.300 ± 0.153" in (out / "compare.md").read_text()
    with open(out / "compare.csv") as lines:
        found = [float(line["difference of J"]) for line in csv.DictReader(lines)]
    assert found == [0, 0, 0, *DIFFERENCES.values()]
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_one_sequence_has_no_error_and_an_evaluation_one_row(tmp_path):
    runs = [run(tmp_path / str(i), {"a": (i, i)}, f"iterations={i}", row="10 steps") for i in (0, 1)]
    mean, error = paired_difference(*read_settings(runs))
    assert (list(mean), error) == ([-1, -1, -1], None)
    compare(runs, tmp_path / "out")


def test_what_cannot_be_compared_is_one_sentence(runs, tmp_path):
    def refusal(*folders):
        with pytest.raises(UserError) as refused:
            compare(folders)
        return str(refused.value)

    assert "nowhere has no report.json" in refusal(runs[0], tmp_path / "nowhere")
    assert "differ in nothing but the seed" in refusal(*runs[:2])
    apart = run(tmp_path / "apart", {"z": (1, 1)}, "iterations=3")
    assert "no scored sequence in common" in refusal(runs[0], apart)
    assert "has no scores" in refusal(runs[0], run(tmp_path / "bare", {"a": (-1, 0)}))
    (apart / "report.json").write_text("[]")
    assert "apart has no scores: name a run whose test videos" in refusal(runs[0], apart)
    (apart / "report.json").write_text("{")
    assert "apart/report.json is no report" in refusal(runs[0], apart)
