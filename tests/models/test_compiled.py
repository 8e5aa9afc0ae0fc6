"""A compiled backbone: one compilation for all copies that adapt, the same maps, and a way on without it.

Dynamo's eager backend takes the same way as its compiler, in a hundredth of the time.
"""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from doubles import Clip, light_learner
from torch import fx

from eosvos.config.inference import Finetune
from eosvos.inference.predictor import Predictor
from eosvos.models.compiled import CompiledEncoder

VIDEO = Clip(ids=(1, 2), length=5)
FINETUNE = Finetune(steps=1, batch_size=1, feature_batch_size=2)


def segmented(backend: Callable[..., Any] | None) -> torch.Tensor:
    learner = light_learner()
    learner.segmenter.compiled = CompiledEncoder(backend) if backend else None
    return torch.stack([labels for _, labels in Predictor(learner, FINETUNE).segment(VIDEO)])


def test_objects_share_what_is_compiled_and_are_segmented_as_without():
    graphs: list[fx.GraphModule] = []

    def noting(graph: fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    assert torch.equal(segmented(noting), segmented(None))
    assert len(graphs) == 1, "of two objects, each with two chunks of two frames"


def test_what_cannot_be_compiled_runs_as_it_is_and_is_said_once(caplog: pytest.LogCaptureFixture):
    def failing(graph: fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        raise RuntimeError("there is no compiler")

    torch._dynamo.reset()
    with caplog.at_level(logging.WARNING, "eosvos"):
        assert torch.equal(segmented(failing), segmented(None))
    [said] = [record.message for record in caplog.records if record.name.startswith("eosvos")]
    assert "there is no compiler" in said
    assert "\n" not in said
