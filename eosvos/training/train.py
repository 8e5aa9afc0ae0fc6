"""What train.py does: parent training, meta-training, and an evaluation of what they are worth."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from eosvos.config.build import build_a
from eosvos.config.training import Config
from eosvos.console import console_for_people, say
from eosvos.data.sequence import scored_frames
from eosvos.data.splits import Splits, key_of
from eosvos.digest import file_digest
from eosvos.errors import UserError
from eosvos.evaluation.folders import checked_videos
from eosvos.evaluation.manifest import open_results
from eosvos.evaluation.provenance import about_run, record_run
from eosvos.evaluation.scoring import Validation
from eosvos.evaluation.start import check_lr_of_inner_lrs, learner_for, with_checkpoint
from eosvos.evaluation.tables import Row, rows_table, write_report
from eosvos.meta.checkpoint import load_learner
from eosvos.meta.learner import MetaLearner
from eosvos.meta.module import MetaModule
from eosvos.meta.outer import build_optimizer, torch_optimizer
from eosvos.meta.parent import ParentModule
from eosvos.models.weights import read_saved, save_whole
from eosvos.processes import broadcast_from_rank_zero, is_rank_zero, take_signals_once_connected
from eosvos.setup import device_for, set_up
from eosvos.training.callbacks import go_on
from eosvos.training.division import keep_divisions
from eosvos.training.earlier import forget_earlier
from eosvos.training.final_eval import FinalEvaluation
from eosvos.training.loggers import boards, closing, log_final_evaluation, start_loggers
from eosvos.training.resume import check_same_run
from eosvos.training.trainer import LAST, data_module, fit

_log = logging.getLogger(__name__)

INITIALISATION = "initialisation.pt"


@dataclass
class TrainResult:
    """What a run has made: the learner, its initialisation, the rows of the final evaluation.

    `metrics`: for each row its figures (J, F, J&F, standard errors, seconds), by the row's title.
    """

    learner: MetaLearner
    initial: MetaLearner | None
    rows: list[Row]

    @property
    def metrics(self) -> dict[str, dict[str, float | None]]:
        """The figures by row."""
        return {row.title: row.figures() for row in self.rows}


def train(config: Config, videos: Splits | None = None) -> TrainResult:
    """Run the stages that are configured, and evaluate; everything goes into the folder config.output.

    videos: what `checked_videos` has made of the configuration. Raises UserError for bad input, in good time.
    """
    videos = videos or checked_videos(config, training=True)
    set_up(config)
    asked = config
    config, loaded = with_checkpoint(asked)
    check_lr_of_inner_lrs(asked, config)
    if loaded and config.resume:
        check_same_run(config, loaded)
    learner = learner_for(config, loaded)
    check_training(config, videos, learner)
    loggers = start_loggers(config)
    with closing(loggers):
        if is_rank_zero():
            forget_earlier(config)
            record_run(config)
            keep_divisions(config, videos)
        for board in boards(loggers):
            board.run(config.model_dump() | about_run(config))
        resumed = loaded.stage if loaded and config.resume else None
        initial = fit_stages(config, learner, videos, loggers, resumed)
        take_signals_once_connected()
        learned, last = (learner, LAST["meta"]) if config.iterations else (None, LAST["parent"])
        with resumable(Path(config.output) / "checkpoints" / last):
            rows = final_evaluation(config, videos, initial, learned)
            if is_rank_zero():
                write_report(config.output, rows)
            log_final_evaluation(loggers, rows, config.iterations)
        say(f"Checkpoints, logs and masks: {config.output}")
    return TrainResult(learner, initial, rows)


def fit_stages(
    config: Config, learner: MetaLearner, videos: Splits, loggers: list[Logger], resumed: str | None
) -> MetaLearner | None:
    """Train the learner, in the stages that are configured; returns it as meta-training has found it.

    resumed: the stage that goes on from config.checkpoint, if one does.
    """
    resume = {resumed: config.checkpoint}
    if config.parent.steps and resumed != "meta":
        parent = ParentModule(learner, config.parent, seed=config.seed)
        fit(config, "parent", parent, videos, loggers, resume.get("parent"))
    initial = initialisation(config, learner, resumed=resumed == "meta")
    if config.iterations:
        drawn = [video for of_set in videos.val.values() for video in of_set[: config.val_visualisations]]
        validate = Validation(config.finetune, config.seed, drawn)
        module = MetaModule(learner, config.meta, config.iterations, config.seed, validate, list(videos.val))
        fit(config, "meta", module, videos, loggers, resume.get("meta"))
    return initial


def check_training(config: Config, videos: Splits, learner: MetaLearner) -> None:
    """Raise UserError for what a learner cannot be trained with, before anything of an earlier run goes."""
    for node in config.callbacks.values():
        build_a(Callback, node)
    if config.parent.steps:
        torch_optimizer(config.parent.optimizer, learner.weights())
    if not config.iterations:
        return
    build_optimizer(learner, config.meta.outer)
    data_module(config, videos, "meta").train_dataloader()
    for name in ("no_label", "label_inversion"):
        if getattr(config.dataset, name) and not learner.segmenter.semantic:
            raise UserError(
                f"dataset.{name} is impossible for {type(learner.segmenter).__name__}, which needs an object "
                f"in every mask: set dataset.{name}=0"
            )


@contextmanager
def resumable(checkpoint: Path) -> Iterator[None]:
    """Add to what ends the block early how to go on, where that checkpoint is there."""
    try:
        yield
    except BaseException as error:
        if checkpoint.is_file():
            error.add_note(go_on(checkpoint))
        raise


def initialisation(config: Config, learner: MetaLearner, resumed: bool) -> MetaLearner | None:
    """A copy of the learner as meta-training finds it.

    A resumed run finds it beside its checkpoint, or not at all (None).
    """
    initial = copy.deepcopy(learner)
    path = Path(config.output) / "checkpoints" / INITIALISATION
    if resumed:
        there = Path(str(config.checkpoint)).parent / INITIALISATION
        if not there.is_file():
            return None
        refusal = f"{there} is broken, remove it to go on without the rows of the initialisation"
        load_learner(initial, read_saved(there, refusal), refusal)
    if is_rank_zero():
        save_whole(path, initial.state_dict())
    return initial


def final_evaluation(
    config: Config, videos: Splits, initial: MetaLearner | None, learned: MetaLearner | None
) -> list[Row]:
    """Compare initialisation and meta-learned learner on the test videos; print the table.

    All processes work on it.
    """
    if not videos.test:
        say("There is no evaluation: no data set has videos for test")
        return []
    # When they were chosen, their masks had not been read.
    selection = [video for video in videos.selection if scored_frames(video)]
    left_out = len(videos.selection) - len(selection)
    if left_out and is_rank_zero():
        _log.warning("no fixed learning rate is selected on %d videos without a frame to score", left_out)
    device = device_for(config.trainer.accelerator)
    last = Path(config.output) / "checkpoints" / LAST["meta"]
    # What a resumed run finds there is of its own last checkpoint, which may have changed.
    overwrite = config.overwrite or config.results is None or config.resume
    # Rows with a fixed learning rate keep no masks.
    shown = config.model_copy(update={"finetune": config.finetune.model_copy(update={"fixed_lr": None})})
    evaluation = FinalEvaluation(
        test=videos.test,
        selection=selection,
        finetune=config.finetune,
        lr_grid=config.final_eval.lr_grid,
        seed=config.seed,
        folders=broadcast_from_rank_zero(lambda: open_results(shown, file_digest(last).hex(), overwrite))
        if learned
        else None,
        visualisations=config.final_eval.visualisations,
        initialisation="initialisation (parent training)" if config.parent.steps else "initialisation",
        as_initialised=config.final_eval.initialisation,
    )
    keys = " and ".join(key_of(name, "test") for name in videos.test)
    title = f"{sum(map(len, videos.test.values()))} videos of {keys}"
    with console_for_people().status(f"Evaluating on {title}"):
        rows = evaluation.rows(initial and initial.to(device), learned and learned.to(device))
    say(rows_table(rows, title=title))
    return rows
