"""The inner loop and its meta-gradient against the published system's numbers and the closed form."""

import copy
from itertools import repeat

import numpy as np
import pytest
import torch
from doubles import light_learner
from torch import Tensor, nn

from eosvos.config.meta import EarlyStopping, InnerLR
from eosvos.errors import UserError
from eosvos.meta.adaptation import Adaptation, Unrolled
from eosvos.meta.learner import MetaLearner, total_loss
from eosvos.models.segmenter import Features, Segmenter

NAMES = ("0.weight", "0.bias", "2.weight", "2.bias")


class TinySegmenter(Segmenter):
    """The network of goldens/meta: its loss is the mean squared error of its output, or dice on it."""

    second_order_everywhere = True

    def __init__(self, dice: bool = False) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3)).double()
        self.dice = dice

    def losses(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        output = self.backbone(images)
        if self.dice:
            p = output.sigmoid()
            return {"dice": 1 - (2 * (p * masks).sum() + 1) / (p.sum() + masks.sum() + 1)}
        return {"mse": ((output - masks) ** 2).mean()}

    def features(self, images: Tensor) -> Features:
        raise NotImplementedError

    def segment(
        self, features: Features, index: int, prior: Tensor | None = None, redetect: bool = False
    ) -> Tensor:
        raise NotImplementedError

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.backbone[2].parameters())


@pytest.fixture(scope="module")
def golden(goldens) -> dict[str, Tensor]:
    with np.load(goldens / "meta" / "meta_optimizer.npz") as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file}


def golden_learner(
    golden: dict[str, Tensor], level: str, log: bool, order: str, dice: bool = False
) -> MetaLearner:
    segmenter = TinySegmenter(dice)
    segmenter.backbone.load_state_dict({name: golden[f"w0/{name}"] for name in NAMES})
    learner = MetaLearner(segmenter, InnerLR(level=level, log=log, init=0.1), order=order)
    for i, (name, learning_rate) in enumerate(learner.named_inner_lrs()):
        short = name.removeprefix("backbone.")
        value = {
            "neuron": lambda short=short: golden[f"lr/NEURON/{short}"],
            "param": lambda short=short: golden[f"lr/PARAM/{short}"],
            "tensor": lambda i=i: golden["lr/TENSOR"][i, 0],
            "single": lambda: golden["lr/SINGLE"][0, 0],
        }[level]()
        learning_rate.value.data.copy_(value.log() if log else value)
    return learner


CASES = [
    ("neuron_first", [0, 1], 2),
    ("neuron_first_dice", [0, 1], 2),
    ("neuron_log", [0, 1], 2),
    ("neuron_log_second", [0, 1], 2),
    ("neuron_multistep", [0.3, 0.7], 2),
    ("neuron_onestep", [1], 1),
    ("neuron_second", [0, 1], 2),
    ("param_first", [0, 1], 2),
    ("param_second", [0, 1], 2),
    ("single_first", [0, 1], 2),
    ("single_log", [0, 1], 2),
    ("single_second", [0, 1], 2),
    ("tensor_log", [0, 1], 2),
    ("tensor_second", [0, 1], 2),
]


@pytest.mark.parametrize(("case", "query_weights", "steps"), CASES, ids=[case[0] for case in CASES])
def test_meta_gradient_equals_the_published_systems(golden, case, query_weights, steps):
    level, *kind = case.split("_")
    learner = golden_learner(
        golden,
        level,
        "log" in kind,
        "second_order" if "second" in kind else "first_order",
        "dice" in kind,
    )
    batches = [(golden["inner_x"][k], golden["inner_y"][k]) for k in range(steps)]
    query = [(golden["meta_x"], golden["meta_y"])]

    adapted = learner.adapt(batches)
    result = learner.meta_gradient(batches, query, query_weights)

    for name, weight in zip(NAMES, adapted.parameters(), strict=True):
        torch.testing.assert_close(weight.detach(), golden[f"{case}/p/{name}"], rtol=1e-10, atol=1e-12)
    weights = result.gradients[: len(NAMES)]
    for name, gradient in zip(NAMES, weights, strict=True):
        torch.testing.assert_close(gradient, golden[f"{case}/ginit/{name}"], rtol=1e-8, atol=1e-10)
    lr_gradients = result.gradients[len(NAMES) :]
    if level in ("neuron", "param"):
        expected = [golden[f"{case}/glr/{name}"] for name in NAMES]
    else:
        expected = list(golden[f"{case}/glr"].reshape(-1))
    assert len(lr_gradients) == len(expected)
    for gradient, value in zip(lr_gradients, expected, strict=True):
        torch.testing.assert_close(gradient.reshape(value.shape), value, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(result.query_loss, golden[f"{case}/meta_losses"].sum())
    torch.testing.assert_close(result.support_losses, golden[f"{case}/inner_losses"])


def random_batches(steps: int, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)
    return [(draw(2, 3, 10, 10), draw(2, 1, 6, 6)) for _ in range(steps)]


@pytest.fixture
def learner() -> MetaLearner:
    torch.manual_seed(0)
    return MetaLearner(TinySegmenter(), InnerLR(level="neuron", init=0.05))


def test_second_order_gradients_equal_finite_differences():
    torch.manual_seed(0)
    learner = MetaLearner(TinySegmenter(), InnerLR(level="neuron", init=0.2), order="second_order")
    generator = torch.Generator().manual_seed(1)
    batches, query = random_batches(3, generator), random_batches(1, generator)
    result = learner.meta_gradient(batches, query, [0, 0, 1])
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in learner.meta_parameters()]

    def query_loss(step: float) -> float:
        moved = copy.deepcopy(learner)
        for p, d in zip(moved.meta_parameters(), direction, strict=True):
            p.data += step * d
        return moved.meta_gradient(batches, query, [0, 0, 1]).query_loss.item()

    analytic = sum((g * d).sum().item() for g, d in zip(result.gradients, direction, strict=True))
    numeric = (query_loss(1e-6) - query_loss(-1e-6)) / 2e-6
    assert analytic == pytest.approx(numeric, rel=1e-6)


def test_second_order_of_the_heads_holds_the_other_gradients_constant():
    """One step: the head's mixed second derivatives reach the encoder's initial weights, the encoder's own do
    not.
    """
    torch.manual_seed(0)
    learner = MetaLearner(TinySegmenter(), InnerLR(level="single", init=0.2), order="second_order_heads")
    generator = torch.Generator().manual_seed(1)
    [batch], [query] = random_batches(1, generator), random_batches(1, generator)
    result = learner.meta_gradient([batch], [query], [1])

    weights = [p.detach().clone().requires_grad_() for p in learner.weights()]
    call = lambda ps, x: torch.func.functional_call(
        learner.segmenter.backbone, dict(zip(NAMES, ps, strict=True)), x
    )
    gradients = torch.autograd.grad(
        ((call(weights, batch[0]) - batch[1]) ** 2).mean(), weights, create_graph=True
    )
    constant = [g.detach() for g in gradients[:2]]
    adapted = [p - 0.2 * g for p, g in zip(weights, [*constant, *gradients[2:]], strict=True)]
    expected = torch.autograd.grad(((call(adapted, query[0]) - query[1]) ** 2).mean(), weights)
    for gradient, value in zip(result.gradients, expected, strict=False):
        torch.testing.assert_close(gradient, value)


def test_second_order_of_the_heads_is_second_order_where_all_parameters_are_heads(monkeypatch):
    monkeypatch.setattr(TinySegmenter, "head_parameters", lambda self: list(self.parameters()))
    generator = torch.Generator().manual_seed(1)
    batches, query = random_batches(2, generator), random_batches(1, generator)
    gradients = []
    for order in ("second_order_heads", "second_order"):
        torch.manual_seed(0)
        learner = MetaLearner(TinySegmenter(), InnerLR(init=0.2), order=order)
        gradients.append(learner.meta_gradient(batches, query, [0, 1]).gradients)
    for heads, full in zip(*gradients, strict=True):
        torch.testing.assert_close(heads, full)


def test_meta_gradient_of_first_order_has_its_closed_form(learner):
    generator = torch.Generator().manual_seed(1)
    batches, query = random_batches(4, generator), random_batches(2, generator)
    result = learner.meta_gradient(batches, query, [0, 0, 0, 1])
    start = [p.detach() for p in learner.weights()]
    adapted = learner.adapt(batches)
    loss = sum(total_loss(adapted, *batch) for batch in query)
    v = torch.autograd.grad(loss, list(adapted.parameters()))
    n = len(v)
    for i, lr in enumerate(learner.inner_lrs()):
        torch.testing.assert_close(result.gradients[i], v[i])
        summed = (start[i] - list(adapted.parameters())[i]) / lr
        per_value = -(v[i] * summed)
        dims = [d for d in range(per_value.dim()) if lr.shape[d] == 1 != per_value.shape[d]]
        expected = per_value.sum(dims, keepdim=True) if dims else per_value
        torch.testing.assert_close(result.gradients[n + i], expected)


def test_truncation_has_gradients_for_the_inner_learning_rates_in_every_segment(learner):
    generator = torch.Generator().manual_seed(1)
    batches, query = random_batches(4, generator), random_batches(1, generator)
    n = len(learner.weights())
    truncated = learner.meta_gradient(batches, query, [0, 1, 0, 1], truncate_every=2)
    first_segment = learner.meta_gradient(batches[:2], query, [0, 1])
    for gradient, expected in zip(truncated.gradients[:n], first_segment.gradients[:n], strict=True):
        torch.testing.assert_close(gradient, expected)
    halfway = learner.adapt(batches[:2])
    second = MetaLearner(halfway, learner.inner_lr)
    for copied, lr in zip(second.inner_lrs(), learner.inner_lrs(), strict=True):
        copied.data.copy_(lr.data)
    second_segment = second.meta_gradient(batches[2:], query, [0, 1])
    for i in range(n, 2 * n):
        expected = first_segment.gradients[i] + second_segment.gradients[i]
        torch.testing.assert_close(truncated.gradients[i], expected)


@pytest.mark.parametrize("order", ["first_order", "second_order_heads", "second_order"])
@pytest.mark.parametrize(
    ("stopping", "steps"),
    [
        ({"patience": 1}, 4),
        ({"patience": 2}, 5),
        ({"patience": 3}, 6),
        ({"patience": 1, "min_delta": 3.5}, 3),
        ({"patience": 4, "min_delta": 3.5}, 6),
    ],
)
@pytest.mark.parametrize(
    ("query_weights", "truncate_every"),
    [([0, 0, 0, 0, 0, 1], None), ([0.1, 0.2, 0.3, 0.1, 0.2, 0.1], None), ([1, 0, 0, 0, 1, 0], 2)],
)
def test_early_stopping_ends_the_inner_loop_and_the_last_step_gets_the_weights_of_those_left_out(
    order, stopping, steps, query_weights, truncate_every
):
    torch.manual_seed(0)
    learner = MetaLearner(TinySegmenter(), InnerLR(init=1e-4), order=order)
    generator = torch.Generator().manual_seed(1)
    query = random_batches(2, generator)
    # Support losses of about 9, 4, 1, 2, 1.4, 0.2: learning rates are so small that the targets make them.
    targets = zip(random_batches(6, generator), (3, 2, 1, 1.5, 1.2, 0.5), strict=True)
    batches = [(images, learner.segmenter.backbone(images).detach() + far) for (images, _), far in targets]
    stopped = learner.meta_gradient(batches, query, query_weights, truncate_every, EarlyStopping(**stopping))
    weights = [*query_weights[: steps - 1], sum(query_weights[steps - 1 :])]
    expected = learner.meta_gradient(batches[:steps], query, weights, truncate_every)
    assert all(map(torch.equal, stopped.gradients, expected.gradients))
    assert stopped.query_loss == expected.query_loss
    assert stopped.support_losses.tolist() == expected.support_losses.tolist()
    assert len(stopped.support_losses) == steps


LEVELS = ("single", "tensor", "neuron", "param")


@pytest.mark.parametrize(
    ("query_weights", "truncate_every", "patience"),
    [
        ([0, 0, 0, 1], None, None),
        ([0.1, 0.2, 0.3, 0.4], None, 1),
        ([1, 0, 0, 1], 2, None),
        ([0, 0, 1, 1], 1, 2),
    ],
)
@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_first_order_is_that_of_learn2learn(
    monkeypatch, level, log, max_grad_norm, query_weights, truncate_every, patience
):
    """learn2learn differentiates the inner loop; here is its closed form."""
    torch.manual_seed(0)
    inner_lr = InnerLR(level=level, log=log, init=0.3, max_grad_norm=max_grad_norm)
    segmenter = TinySegmenter()
    segmenter.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
    learner = MetaLearner(segmenter, inner_lr)
    generator = torch.Generator().manual_seed(1)
    arguments = (
        random_batches(4, generator),
        random_batches(2, generator),
        query_weights,
        truncate_every,
        EarlyStopping(patience=patience),
    )
    result = learner.meta_gradient(*arguments)
    monkeypatch.setattr("eosvos.meta.learner.FirstOrder", lambda *_: Unrolled(learner.gbml))
    expected = learner.meta_gradient(*arguments)
    assert result.query_loss == expected.query_loss
    assert torch.equal(result.support_losses, expected.support_losses)
    for gradient, value in zip(result.gradients, expected.gradients, strict=True):
        torch.testing.assert_close(gradient, value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_adaptation_is_that_of_learn2learn_to_the_last_bit_and_leaves_the_learner_alone(
    level, log, max_grad_norm
):
    torch.manual_seed(0)
    learner = MetaLearner(TinySegmenter(), InnerLR(level=level, log=log, max_grad_norm=max_grad_norm))
    before = copy.deepcopy(learner.state_dict())
    batches = random_batches(3, torch.Generator().manual_seed(2))
    adapted, unrolled = learner.adapt(batches), Unrolled(learner.gbml)
    list(learner.inner_loop(batches, unrolled))
    for a, b in zip(adapted.parameters(), unrolled.segmenter.parameters(), strict=True):
        assert a.is_leaf
        assert b.grad_fn is not None
        torch.testing.assert_close(a.detach(), b.detach(), rtol=0, atol=0)
    for name, value in learner.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_adaptation_goes_on_from_where_another_ended(learner):
    batches = random_batches(4, torch.Generator().manual_seed(2))
    halfway = learner.adapt(batches[:2])
    kept = [p.detach().clone() for p in halfway.parameters()]
    resumed, whole = learner.adapt(batches[2:], start=halfway), learner.adapt(batches)
    for a, b in zip(resumed.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    for a, b in zip(halfway.parameters(), kept, strict=True):
        torch.testing.assert_close(a.detach(), b, rtol=0, atol=0)


def test_adaptation_works_under_no_grad_as_lightning_validates(learner):
    with torch.no_grad():
        adapted = learner.adapt(random_batches(1, torch.Generator()))
    assert not torch.equal(next(adapted.parameters()), next(learner.segmenter.parameters()))


def test_a_fixed_learning_rate_is_plain_gradient_descent(learner):
    batches = random_batches(2, torch.Generator().manual_seed(3))
    adapted = learner.with_fixed_lr(0.1).adapt(batches)
    plain = copy.deepcopy(learner.segmenter)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    for images, masks in batches:
        optimizer.zero_grad()
        total_loss(plain, images, masks).backward()
        optimizer.step()
    for a, b in zip(adapted.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.detach(), b.detach())


def test_a_frozen_encoder_has_neither_inner_learning_rates_nor_updates():
    segmenter = TinySegmenter()
    segmenter.head = nn.Conv2d(1, 1, 1).double()
    segmenter.losses = lambda images, masks: {
        "mse": ((segmenter.head(segmenter.backbone(images)) - masks) ** 2).mean()
    }
    learner = MetaLearner(segmenter, InnerLR(init=0.1), train_encoder=False)
    assert [name for name, _ in learner.named_inner_lrs()] == ["head.weight", "head.bias"]
    assert len(learner.weights()) == 2


def test_the_meta_gradient_is_the_same_with_channels_last():
    batch = torch.rand(2, 3, 24, 32).double(), torch.randint(0, 2, (2, 24, 32), dtype=torch.uint8)
    first, last = light_learner().double(), light_learner().double().to(memory_format=torch.channels_last)
    expected, found = (one.meta_gradient([batch] * 2, [batch], [0.0, 1.0]) for one in (first, last))
    for a, b in zip(found.gradients, expected.gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    adapted = last.adapt([batch])
    assert all(
        w.is_contiguous(memory_format=torch.channels_last) for w in adapted.parameters() if w.dim() == 4
    )


def test_memory_does_not_grow_with_the_number_of_steps(learner):
    """The adapted weights hold no graph, so nothing of an earlier step is reachable from a later one."""
    batch = random_batches(1, torch.Generator())[0]
    adaptation = Adaptation(learner.segmenter, dict(learner.named_inner_lrs()))
    for loss in learner.inner_loop(repeat(batch, 3), adaptation):
        assert all(p.grad_fn is None and p.requires_grad for p in adaptation.segmenter.parameters())
        assert loss.grad_fn is None


def test_second_order_is_refused_where_it_cannot_work():
    class Detector(TinySegmenter):
        second_order_everywhere = False

    with pytest.raises(
        UserError, match=r"order=second_order is impossible for Detector.*order=second_order_heads"
    ):
        MetaLearner(Detector(), order="second_order")
