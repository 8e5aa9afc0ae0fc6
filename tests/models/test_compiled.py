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
from torch._dynamo.backends.debugging import aot_eager

from eosvos.config.inference import Finetune
from eosvos.evaluation import start
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
    assert len(graphs) == 2, "with gradients and without, of two objects, each with two chunks of two frames"


@pytest.mark.parametrize("order", ["first_order", "second_order_heads", "second_order"])
def test_meta_gradient_and_adaptation_are_those_without(order: str):
    graphs: list[fx.GraphModule] = []

    def noting(graph: fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return aot_eager(graph, inputs)

    def passes(compiled: CompiledEncoder | None) -> list[torch.Tensor]:
        learner = light_learner(order=order)
        learner.segmenter.compiled = compiled
        given = learner.meta_gradient(batches[:2], batches[2:], [0.5, 1])
        adapted = learner.adapt(batches[:2])
        return [*given.gradients, given.query_loss, *adapted.parameters()]

    generator = torch.Generator().manual_seed(1)
    images = torch.rand(6, 3, 32, 48, generator=generator)
    masks = (torch.rand(6, 32, 48, generator=generator) > 0.5).to(torch.uint8)
    batches = list(zip(images.split(2), masks.split(2), strict=True))
    torch._dynamo.reset()
    first_order = order == "first_order"
    compiled = passes(CompiledEncoder(noting, with_gradients=first_order))
    torch.testing.assert_close(compiled, passes(None))
    assert len(graphs) == first_order, "in one graph, forward and backward, for all weights and steps"


@pytest.mark.parametrize("order", ["first_order", "second_order_heads"])
def test_auto_compiles_on_a_gpu_and_with_gradients_in_first_order(
    config, monkeypatch: pytest.MonkeyPatch, order: str
):
    settings = config("trainer.compile=auto", f"meta.order={order}")
    assert start.learner_for(settings, None).segmenter.compiled is None
    monkeypatch.setattr(start, "device_for", lambda accelerator: torch.device("cuda"))
    assert start.learner_for(settings, None).segmenter.compiled.with_gradients == (order == "first_order")


def test_what_cannot_be_compiled_runs_as_it_is_and_is_said_once(caplog: pytest.LogCaptureFixture):
    def failing(graph: fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        raise RuntimeError("there is no compiler")

    torch._dynamo.reset()
    with caplog.at_level(logging.WARNING, "eosvos"):
        assert torch.equal(segmented(failing), segmented(None))
    [said] = [record.message for record in caplog.records if record.name.startswith("eosvos")]
    assert "there is no compiler" in said
    assert "\n" not in said
