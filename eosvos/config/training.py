"""A whole run: what train.py and evaluate.py read."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from eosvos.config.data import Tasks
from eosvos.config.inference import Finetune
from eosvos.config.meta import Meta
from eosvos.config.setting import Location, Optimizer, Settings

ADAMW = {"_target_": "torch.optim.AdamW", "lr": 1e-4, "weight_decay": 1e-4}


class Dataset(Tasks):
    """A data set: how tasks are drawn, and three lists of videos, each by the _target_ that makes it.

    Further keys are what the three have in common; each of them refers to it.
    """

    model_config = ConfigDict(extra="allow")

    #: The videos to train on.
    train: dict[str, Any]
    #: The videos to choose the best checkpoint by.
    val: dict[str, Any]
    #: The videos to evaluate on.
    test: dict[str, Any]


class Parent(Settings):
    """Supervised training before meta-training (method, section 6)."""

    #: Steps; 0: none.
    steps: int = Field(0, ge=0)
    #: Frames in a step, over all processes.
    batch_size: int = Field(4, ge=1)
    #: Any optimiser of torch.optim, by _target_; its lr falls to a hundredth along a half cosine.
    optimizer: Optimizer = Field(default_factory=lambda: dict(ADAMW))


class FinalEval(Settings):
    """The table at the end of a training run."""

    #: Fixed learning rates to compare with, ascending; the best on some training videos is taken.
    lr_grid: list[Annotated[float, Field(gt=0)]] = Field([1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2], min_length=2)
    #: Training videos on which it is chosen; 0: no such comparison.
    selection_videos: int = Field(8, ge=0)
    #: Training leaves these videos out, which it would know by heart after many parent steps.
    exclude_from_training: bool = False
    #: Videos of which a few segmented frames are drawn.
    visualisations: int = Field(20, ge=0)

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.lr_grid != sorted(set(self.lr_grid)):
            raise ValueError(f"lr_grid={self.lr_grid} must be ascending")
        return self


class Trainer(Settings):
    """Hardware, and what is shown while it works."""

    #: Where to compute.
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    #: Processes (on a GPU one each); a divisor of meta.batch_size.
    devices: int = Field(1, ge=1)
    #: Precision of training.
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    #: Processes beside each of these that prepare tasks; 0: none.
    num_workers: int = Field(2, ge=0)
    #: Meta iterations between two lines in the logs.
    log_every_n_steps: int = Field(1, ge=1)
    #: Minutes between two checkpoints from which the run can be resumed; null: only at validations.
    save_minutes: float | None = Field(5.0, gt=0)
    #: A progress bar with loss, J&F and the time left.
    enable_progress_bar: bool = True


class Config(Settings):
    """Everything that train.py and evaluate.py read."""

    #: Fixes initial learning rates, tasks and everything else that is drawn at random.
    seed: int = Field(0, ge=0, le=2**32 - 1)
    #: CPU threads of each process; null: the machine's cores shared among the processes.
    threads: int | None = Field(1, ge=1)
    #: A checkpoint to start from, which brings network and inner learning rates; null: a new network.
    checkpoint: Location | None = None
    #: Go on with the interrupted run that wrote the checkpoint, exactly where it was.
    resume: bool = False
    #: The folder that this run writes into; to choose it, set hydra.run.dir.
    output: Location
    #: The folder for masks and tables; null: OUTPUT/results.
    results: Location | None = None
    #: Replace what an earlier run of eosvos wrote into the folders of this one.
    overwrite: bool = False
    #: Packages beside eosvos whose networks a checkpoint may ask for.
    trusted: list[str] = Field(default_factory=list)
    #: Meta iterations; 0: none.
    iterations: int = Field(50_000, ge=0)
    #: Meta iterations between two validations, of which the best checkpoint is kept.
    val_every: int = Field(1000, ge=1)
    parent: Parent = Parent()
    meta: Meta = Meta()
    finetune: Finetune = Finetune()
    final_eval: FinalEval = FinalEval()
    #: The data set: its option decides which of the settings below it has.
    dataset: Dataset
    #: Networks, each by its _target_.
    segmenter: dict[str, Any]
    backbone: dict[str, Any]
    trainer: Trainer = Trainer()
    #: Loggers and callbacks of Lightning, each by _target_.
    logger: dict[str, Any] = Field(default_factory=dict)
    callbacks: dict[str, Any] = Field(default_factory=dict)
