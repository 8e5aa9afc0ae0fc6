"""A whole run: what train.py and evaluate.py read."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from eosvos.config.components import Component
from eosvos.config.data import PARTS, Tasks
from eosvos.config.inference import Finetune
from eosvos.config.meta import Meta
from eosvos.config.setting import Location, Optimizer, Settings

ADAMW = {"_target_": "torch.optim.AdamW", "lr": 1e-4, "weight_decay": 1e-4}


class Source(Settings):
    """A data set: videos for three purposes, each by the _target_ that makes them.

    Further keys are what the three have in common; each of them refers to it.
    """

    model_config = ConfigDict(extra="allow")

    weight: float | None = Field(None, gt=0)
    """Its share of the tasks, relative to the weights of other data sets; null: its number of objects."""
    frame_window: int | None = Field(None, ge=0)
    """Largest distance of query frames in its tasks; null: `dataset.frame_window`."""
    train: Component | None = None
    """The videos to train on; null, as in the following: none, beside another data set that has some."""
    val: Component | None = None
    """The videos to choose the best checkpoint by."""
    test: Component | None = None
    """The videos to evaluate on."""


def _named(value: Any) -> Any:
    """One of several data sets, which is told from what the parts of a single one have in common."""
    has_parts = isinstance(value, Mapping) and not value.keys().isdisjoint(PARTS)
    return Source(**value) if has_parts else value


class Dataset(Tasks, Source):
    """How tasks are drawn, and a data set; or, in the place of its videos, several data sets by name."""

    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_named)]]

    @property
    def named(self) -> dict[str, Source]:
        """The several data sets, sorted by name."""
        further = sorted((self.model_extra or {}).items())
        return {name: value for name, value in further if isinstance(value, Source)}

    @property
    def sources(self) -> dict[str, Source]:
        """The same, or the single one, whose name is ""."""
        return self.named or {"": self}


class Parent(Settings):
    """Supervised training on single frames before meta-training (method, section 6)."""

    steps: int = Field(0, ge=0)
    """Steps; 0: none."""
    batch_size: int = Field(4, ge=1)
    """Frames in a step, over all processes."""
    objects: Literal["all", "one"] = "all"
    """Targets of a frame: all of its objects, or one object with the others as background."""
    optimizer: Optimizer = Field(default_factory=lambda: dict(ADAMW))
    """Any optimiser of torch.optim, by _target_."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the learning rate rises to that of the optimiser."""
    min_lr_ratio: float | None = Field(0.01, ge=0, le=1)
    """Final learning rate of a half-cosine schedule, as a share of the initial one; null: constant."""
    max_grad_norm: float | None = Field(None, gt=0)
    """Largest norm of the gradient; null: any."""


class FinalEval(Settings):
    """The table at the end of a training run."""

    lr_grid: list[Annotated[float, Field(gt=0)]] = Field([1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2], min_length=2)
    """Fixed learning rates to compare with, ascending; the best on some training videos is taken."""
    selection_videos: int = Field(8, ge=0)
    """Training videos on which it is chosen; 0: no such comparison."""
    initialisation: bool = False
    """A row for the weights and inner learning rates that meta-training started from (a checkpoint's)."""
    exclude_from_training: bool = False
    """Training leaves selection_videos out, which it would know by heart after many parent steps."""
    visualisations: int = Field(20, ge=0)
    """Videos of which a few segmented frames are drawn."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.lr_grid != sorted(set(self.lr_grid)):
            raise ValueError(f"lr_grid={self.lr_grid} must be ascending")
        return self


class Trainer(Settings):
    """Hardware, and what is shown while it works."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to compute."""
    devices: int = Field(1, ge=1)
    """Processes (on a GPU one each); in train.py a divisor of meta.batch_size."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Precision of training."""
    matmul_precision: Literal["highest", "high", "medium"] = "high"
    """Precision of float32 matrix products on a GPU: highest, high (TF32) or medium (bfloat16)."""
    channels_last: bool = False
    """Weights and feature maps with their channels last in memory: faster for some networks alone."""
    benchmark: bool = False
    """Let cuDNN try its algorithms for each size on a GPU: faster where sizes repeat; rounds otherwise."""
    compile: bool | Literal["auto"] = False
    """Run the backbone by torch.compile: seconds to minutes for the first two sizes of frames, with gradients
    and without. auto: on a GPU. With gradients, meta.order=first_order alone is compiled.
    """
    num_workers: int = Field(2, ge=0)
    """Processes beside each of trainer.devices that prepare tasks; 0: none."""
    log_every_n_steps: int = Field(1, ge=1)
    """Meta iterations between two lines in the logs."""
    save_minutes: float | None = Field(5.0, gt=0)
    """Minutes between two checkpoints from which the run can be resumed; null: only at validations."""
    enable_progress_bar: bool = True
    """A progress bar with loss, J&F and the time left."""


class Config(Settings):
    """Everything that train.py and evaluate.py read."""

    seed: int = Field(0, ge=0, le=2**32 - 1)
    """Fixes initial learning rates, tasks and everything else that is drawn at random."""
    threads: int | None = Field(1, ge=1)
    """CPU threads of each process; null: the machine's cores shared among the processes."""
    checkpoint: Location | None = None
    """Checkpoint to start from, network and inner learning rates: file, folder, name, hf://OWNER/NAME."""
    resume: bool = False
    """Go on with the interrupted run that wrote the checkpoint, exactly where it was."""
    output: Location
    """The folder that this run writes into; to choose it, set hydra.run.dir."""
    results: Location | None = None
    """The folder for masks and tables; null: OUTPUT/results."""
    results_format: Literal["png", "overlay", "both", "cutout"] | None = None
    """What is written of a video: png, a mask of each frame; overlay, a video with the masks laid over it;
    both; or cutout, a PNG of each frame with the objects on transparency; null: both of video files, else
    png.
    """
    overwrite: bool = False
    """Replace what an earlier run of eosvos wrote into the folders of this one."""
    submission: bool = False
    """Of evaluate.py: zip the masks, in the results, as the data set's evaluation server takes them."""
    evaluator: Literal["eosvos", "davis2017"] = "eosvos"
    """Of evaluate.py: what computes J and F, eosvos itself or the official DAVIS tool, to be installed."""
    trusted: list[str] = Field(default_factory=list)
    """Packages beside eosvos whose networks a checkpoint may ask for."""
    iterations: int = Field(50_000, ge=0)
    """Meta iterations; 0: none."""
    minutes: float | None = Field(None, gt=0)
    """Minutes of wall clock after which training ends, however many iterations are left, and by which the
    learning rates of its schedules fall; parent and meta-training, where there are both, have half each. How
    far training comes then depends on the machine and its load; null: any time.
    """
    val_every: int = Field(1000, ge=1)
    """Meta iterations between two validations, of which the best checkpoint is kept."""
    val_visualisations: int = Field(3, ge=0)
    """Videos of each data set, the first ones, of which a few frames are drawn at every validation."""
    parent: Parent = Parent()
    meta: Meta = Meta()
    finetune: Finetune = Finetune()
    final_eval: FinalEval = FinalEval()
    dataset: Dataset
    """The data set, or several by name: the option decides which of the settings below it has."""
    segmenter: Component
    """The network that makes masks of feature maps, by its _target_."""
    backbone: Component
    """The network that makes feature maps of a frame, by its _target_."""
    trainer: Trainer = Trainer()
    logger: dict[str, Component] = Field(default_factory=dict)
    """Loggers of Lightning by any name, each with its _target_."""
    callbacks: dict[str, Component] = Field(default_factory=dict)
    """Callbacks of Lightning by any name, each with its _target_."""

    @property
    def minutes_of_stage(self) -> float | None:
        """What each stage has of `minutes`."""
        return self.minutes and self.minutes / (bool(self.iterations) + bool(self.parent.steps) or 1)
