"""Learning to fine-tune: the inner loop, and the outer loop that trains it."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from eosvos.config.setting import Optimizer, Settings

RADAM = {"_target_": "torch.optim.RAdam", "lr": 1e-5, "weight_decay": 1e-3, "decoupled_weight_decay": True}


class InnerLR(Settings):
    """The learning rates of the inner loop (method, section 4)."""

    in_order: ClassVar[tuple[str, ...]] = ("init", "max")

    level: Literal["single", "tensor", "neuron", "param"] = "neuron"
    """One learning rate for all (single), or one per tensor, neuron (output channel) or value (param)."""
    init: float = Field(1e-3, gt=0)
    """Learning rate that training starts from; but for single, each is multiplied by 0.5 to 1.5 at random."""
    log: bool = False
    """Learn the logarithms of the learning rates, which are then positive, and outer steps relative."""
    max: float | None = Field(None, gt=0)
    """Upper bound of every learning rate after an outer step; null: none."""
    max_grad_norm: float | None = Field(None, gt=0)
    """Largest norm of a tensor's gradient in an inner step, against divergence; null: any."""


class InnerLRGroup(Settings):
    """The inner learning rates in the outer optimiser."""

    lr: float = Field(1e-5, ge=0)
    """Outer learning rate of the inner learning rates, or of their logarithms; 0: frozen."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of the inner learning rates, or of their logarithms."""


class Outer(Settings):
    """The outer optimiser, which learns initial weights and inner learning rates (method, section 6)."""

    optimizer: Optimizer = Field(default_factory=lambda: dict(RADAM))
    """Any optimiser of torch.optim, by _target_; lr and weight_decay are those of the initial weights."""
    inner_lr: InnerLRGroup = InnerLRGroup()
    """Outer learning rate and weight decay of the inner learning rates (or their logarithms)."""
    max_grad_value: float | None = Field(None, gt=0)
    """Bound of every value of the meta-gradient, either way, before that of the norm; null: none."""
    max_grad_norm: float | None = Field(None, gt=0)
    """Largest norm of the meta-gradient, of initial weights and inner learning rates apart; null: any."""
    min_lr_ratio: float | None = Field(None, ge=0, le=1)
    """Final outer learning rates of a half-cosine schedule, as a share of the first ones; null: constant."""
    freeze: list[str] = Field(default_factory=list)
    """Parts of the network that keep their initial weights, though the inner loop adapts them."""


class EarlyStopping(Settings):
    """The early end of a task's inner loop, when its support loss falls no more (method, section 6)."""

    patience: int | None = Field(None, ge=1)
    """Inner steps in a row without improvement after which a task's inner loop ends; null: never."""
    min_delta: float = Field(0.0, ge=0)
    """Smallest decrease of the support loss, below its lowest value so far, that counts as improvement."""


class Meta(Settings):
    """Meta-training (method, section 6)."""

    batch_size: int = Field(4, ge=1)
    """Tasks in a meta iteration, over all processes; a multiple of trainer.devices."""
    inner_steps: int = Field(5, ge=1)
    """Inner steps on a task's support frame."""
    order: Literal["first_order", "second_order_heads", "second_order"] = "first_order"
    """Inner gradients are constants, or are differentiated: those of the segmenter's heads, or all."""
    train_encoder: bool = True
    """Whether the backbone is adapted and learned; the RPN always is."""
    multi_step_loss: bool = False
    """Take the query loss after every inner step, not after the last one alone."""
    step_weights: list[Annotated[float, Field(ge=0)]] | None = Field(None, min_length=1)
    """With multi_step_loss, the weight of the query loss after each inner step; null: equal weights."""
    truncate_every: int | None = Field(None, ge=1)
    """Cut the chain of inner steps after every so many; null: never."""
    max_nonfinite_iterations: int = Field(10, ge=1)
    """Meta iterations in a row without one finite task after which training ends."""
    early_stopping: EarlyStopping = EarlyStopping()
    inner_lr: InnerLR = InnerLR()
    outer: Outer = Outer()

    @property
    def query_weights(self) -> list[float]:
        """The weight of the query loss after each inner step; they add up to 1 unless given."""
        if self.multi_step_loss:
            return self.step_weights or [1 / self.inner_steps] * self.inner_steps
        return [0.0] * (self.inner_steps - 1) + [1.0]

    @model_validator(mode="after")
    def _stops(self) -> Self:
        patience = self.early_stopping.patience
        # The first step has nothing to improve on, and after the last one there is nothing to end.
        if patience is not None and patience > self.inner_steps - 2:
            raise ValueError(
                f"early_stopping.patience={patience} never ends inner_steps={self.inner_steps} early: it "
                f"needs {patience + 2} steps or more"
            )
        return self

    @model_validator(mode="after")
    def _steps(self) -> Self:
        given, weights = self.step_weights, self.query_weights
        if given is not None and len(given) != self.inner_steps:
            raise ValueError(
                f"step_weights has {len(given)} numbers, but inner_steps={self.inner_steps} needs as many"
            )
        if not sum(weights):
            raise ValueError(f"step_weights={weights}: one of them must be above 0")
        if self.truncate_every and not sum(weights[: self.truncate_every]):
            raise ValueError(
                f"truncate_every={self.truncate_every} cuts the initial weights off from every query loss: "
                f"take one in the first {self.truncate_every} steps, with multi_step_loss=true"
            )
        return self
