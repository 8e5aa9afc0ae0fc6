"""The rows of the final evaluation, and the choice of fixed learning rates."""

import math
from dataclasses import replace

import pytest

from eosvos.config.inference import Finetune
from eosvos.evaluation.tables import Row
from eosvos.training import final_eval
from eosvos.training.final_eval import FinalEvaluation, best_inside


def peak(at):
    """A quality with one maximum over the logarithm of the learning rate."""
    return lambda lr: -abs(math.log(lr / at))


@pytest.mark.parametrize(("at", "best"), [(0.1, 0.1), (0.01, 0.01), (0.0011, 0.001), (9.0, 10.0)])
def test_best_lies_inside_the_grid(at, best):
    tried = []

    def quality(lr):
        tried.append(lr)
        return peak(at)(lr)

    found, inside = best_inside([0.01, 0.1, 1.0], quality)
    assert inside
    assert found == pytest.approx(best)
    assert min(tried) < best < max(tried)
    assert len(tried) == len(set(tried))


def test_extension_ends():
    tried = []
    best, inside = best_inside([0.1, 1.0], lambda lr: tried.append(lr) or lr, extensions=2)
    assert best == pytest.approx(100)
    assert not inside
    assert tried == pytest.approx([0.1, 1.0, 10.0, 100.0])


class FakeLearner:
    """Stands for a learner."""

    def __init__(self, weights):
        self.weights = weights


def test_rows(monkeypatch):
    asked = []

    def score(name, learner, finetune, sequences, seed, dataset=""):
        lr = finetune.fixed_lr
        asked.append((name, learner.weights, lr, finetune.steps, tuple(sequences), seed))
        quality = 0.9 if lr is None else math.exp(-abs(math.log(lr * finetune.steps)))

        class FakeRow(Row):
            def figures(self):
                return {"J&F": quality}

        return FakeRow(name, ())

    monkeypatch.setattr(final_eval, "score_row", score)
    # The row "meta-learned" has the learned learning rates, whatever fixed one is set.
    finetune = Finetune(steps=5, fixed_lr=7.0)
    evaluation = FinalEvaluation({"": ["test"]}, ["selection"], finetune, (0.02, 0.2, 2.0), seed=3)
    rows = evaluation.rows(FakeLearner("old"), FakeLearner("new"))
    assert [row.name for row in rows] == [
        "initialisation, fixed learning rate 0.2",
        "initialisation, 50 steps, fixed learning rate 0.02",
        "meta-learned",
        "meta-learned, fixed learning rate 0.2",
    ]
    # Learning rates are chosen on the selection videos only; only the chosen one sees the test videos.
    reported = [call for call in asked if call[4] == ("test",)]
    assert [(call[1], call[2], call[3]) for call in reported] == [
        ("old", 0.2, 5),
        ("old", 0.02, 50),
        ("new", None, 5),
        ("new", 0.2, 5),
    ]
    assert {call[5] for call in asked} == {3}


def test_rows_without_one_side(monkeypatch):
    class Scored(Row):
        def figures(self):
            return {"J&F": 0.5}

    monkeypatch.setattr(final_eval, "score_row", lambda name, *_: Scored(name, ()))
    evaluation = FinalEvaluation({"": []}, ["selection"], Finetune(), (0.1, 1.0), seed=0)
    assert len(evaluation.rows(FakeLearner("old"), None)) == 2
    assert evaluation.rows(None, FakeLearner("new"))[0].name == "meta-learned"


def test_no_fixed_learning_rates_without_selection_videos(monkeypatch):
    monkeypatch.setattr(final_eval, "score_row", lambda name, *_: Row(name, ()))
    evaluation = FinalEvaluation({"": []}, [], Finetune(), (0.1, 1.0), seed=0)
    rows = evaluation.rows(FakeLearner("old"), FakeLearner("new"))
    assert [row.name for row in rows] == ["meta-learned"]
    parent = replace(evaluation, initialisation="initialisation (parent training)")
    rows = parent.rows(FakeLearner("old"), None)
    assert [row.name for row in rows] == ["initialisation (parent training), initial learning rates"]


def test_the_start_with_its_own_learning_rates_has_a_row_and_leaves_no_masks(monkeypatch):
    filled = []
    monkeypatch.setattr(final_eval, "score_row", lambda name, *_: Row(name, ()))
    monkeypatch.setattr(
        final_eval, "fill_folder", lambda _, predictor, *__: filled.append(predictor.adapter) or []
    )
    evaluation = FinalEvaluation(
        {"": []}, [], Finetune(), (0.1, 1.0), seed=0, folders={"": "results"}, as_initialised=True
    )
    learned = FakeLearner("new")
    rows = evaluation.rows(FakeLearner("old"), learned)
    assert [row.name for row in rows] == ["initialisation, initial learning rates", "meta-learned"]
    assert filled == [learned]
