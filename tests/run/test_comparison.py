"""The rows of the report, and the choice of hand-set rates."""

import math
from dataclasses import replace

import pytest
from eosvos.evaluation.report import ReportRow
from eosvos.run import report
from eosvos.run.report import Comparison, best_inside, compare

from eosvos.inference.finetune import FinetuneConfig


def peak(at):
    """A quality with one maximum over the logarithm of the rate."""
    return lambda rate: -abs(math.log(rate / at))


@pytest.mark.parametrize(("at", "best"), [(0.1, 0.1), (0.01, 0.01), (0.0011, 0.001), (9.0, 10.0)])
def test_best_lies_inside_the_grid(at, best):
    tried = []

    def quality(rate):
        tried.append(rate)
        return peak(at)(rate)

    found, inside = best_inside([0.01, 0.1, 1.0], quality)
    assert inside
    assert found == pytest.approx(best)
    assert min(tried) < best < max(tried)
    assert len(tried) == len(set(tried))


def test_extension_ends():
    tried = []
    best, inside = best_inside([0.1, 1.0], lambda rate: tried.append(rate) or rate, extensions=2)
    assert best == pytest.approx(100)
    assert not inside
    assert tried == pytest.approx([0.1, 1.0, 10.0, 100.0])


class FakeLearner:
    """Stands for a learner."""

    def __init__(self, weights):
        self.weights = weights


def test_rows(monkeypatch):
    asked = []

    def score(name, learner, finetune, sequences, seed):
        rate = finetune.rate
        asked.append((name, learner.weights, rate, finetune.steps, tuple(sequences), seed))
        quality = 0.9 if rate is None else math.exp(-abs(math.log(rate * finetune.steps)))

        class Row(ReportRow):
            def figures(self):
                return {"J&F": quality}

        return Row(name, ())

    monkeypatch.setattr(report, "score_row", score)
    # The row "after" has the learned rates, whatever rate is set.
    finetune = FinetuneConfig(steps=5, rate=7.0)
    comparison = Comparison(["test"], ["tuning"], finetune, (0.02, 0.2, 2.0), seed=3)
    rows = compare(FakeLearner("old"), FakeLearner("new"), comparison)
    assert [row.name for row in rows] == [
        "before, rate 0.2",
        "before, ten times the steps, rate 0.02",
        "after",
        "after with a hand-set rate, rate 0.2",
    ]
    # Rates are chosen on the tuning videos only, and only the chosen one sees the test videos.
    reported = [call for call in asked if call[4] == ("test",)]
    assert [(call[1], call[2], call[3]) for call in reported] == [
        ("old", 0.2, 5),
        ("old", 0.02, 50),
        ("new", None, 5),
        ("new", 0.2, 5),
    ]
    assert {call[5] for call in asked} == {3}


def test_rows_without_one_side(monkeypatch):
    monkeypatch.setattr(report, "score_row", lambda name, *_: ReportRow(name, ()))
    comparison = Comparison([], ["tuning"], FinetuneConfig(), (0.1, 1.0), seed=0)
    assert len(compare(FakeLearner("old"), None, comparison)) == 2
    assert compare(None, FakeLearner("new"), comparison)[0].name == "after"


def test_no_hand_set_rates_without_tuning_videos(monkeypatch):
    monkeypatch.setattr(report, "score_row", lambda name, *_: ReportRow(name, ()))
    comparison = Comparison([], [], FinetuneConfig(), (0.1, 1.0), seed=0)
    assert [row.name for row in compare(FakeLearner("old"), FakeLearner("new"), comparison)] == ["after"]
    parent = replace(comparison, start="before (parent training)")
    rows = compare(FakeLearner("old"), None, parent)
    assert [row.name for row in rows] == ["before (parent training), initial rates"]
