"""What this process needs before it computes: threads, hardware, seed, quiet libraries."""

import logging
import os
import threading
import warnings

import torch

from eosvos.config.training import Config
from eosvos.console import say
from eosvos.errors import UserError
from eosvos.processes import cores

# Warnings of libraries about what is meant to be as it is.
EXPECTED_WARNINGS = (
    r".*module\(s\) in eval mode",  # segmenters set their modes themselves
    r"Checkpoint directory .* exists",  # parent and meta stage share it
    r"Experiment logs directory .* exists",  # keep_log has saved what would be deleted
    r".*does not have many workers",  # tiny networks need none
    r"The dirpath has changed",  # a resumed run writes into a folder of its own
    r"You're resuming from a checkpoint that ended before the epoch",  # tasks depend on the iteration alone
    r"You passed in a `val_dataloader` but have no",  # parent training shares the data module
    r"It is recommended to use `self.log",  # validation adds its scores up itself
    r"Detected call of `lr_scheduler\.step",  # iterations without a finite task count, too
    r".*LeafSpec",
    r"fine-tuning diverged",  # rows of tables say it
)


def set_up(config: Config) -> None:
    """Threads, global seed and quiet libraries; raises UserError where there is no such hardware."""
    found = torch.cuda.device_count()
    on_gpus = config.trainer.accelerator == "gpu" or (config.trainer.accelerator == "auto" and found)
    if on_gpus and found < config.trainer.devices:
        raise UserError(
            f"trainer.devices={config.trainer.devices} GPUs, but there are {found}: take trainer=cpu or fewer"
        )
    if on_gpus:
        torch.set_float32_matmul_precision(config.trainer.matmul_precision)
        torch.backends.cudnn.benchmark = config.trainer.benchmark
    threads = config.threads or max(1, cores() // config.trainer.devices)
    if config.trainer.accelerator == "auto" and not found:
        say(f"No GPU was found: this runs on the CPU, with threads={threads} (null: all cores)")
    # Lightning and the workers look at the variables.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENCV_FOR_THREADS_NUM"] = str(threads)
    torch.set_num_threads(threads)
    torch.manual_seed(config.seed)
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    # Into the run's log, too, which the command line has opened.
    logging.captureWarnings(True)
    # A log on a full disk cannot say so itself.
    logging.raiseExceptions = False
    threading.excepthook = quiet_writers


def quiet_writers(failed: threading.ExceptHookArgs) -> None:
    """Print no traceback of a thread that could not write: TensorBoard keeps the error for its next call."""
    if not isinstance(failed.exc_value, OSError):
        threading.__excepthook__(failed)


def device_for(accelerator: str) -> torch.device:
    """Where this process computes outside of a Trainer."""
    if accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda")
