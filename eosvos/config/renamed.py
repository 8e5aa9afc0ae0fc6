"""Keys and options of earlier versions, and what they are called now."""

from collections.abc import Mapping
from typing import Any

from eosvos.errors import suggest

RENAMED = {
    "dataset.test.range_name": "dataset.test.split",
    "dataset.val.range_name": "dataset.val.split",
    "dataset.val.count": "dataset.val.num_videos",
    "dataset.test.count": "dataset.test.num_videos",
    "finetune.batch": "finetune.batch_size",
    "finetune.lookahead": "finetune.feature_batch_size",
    "finetune.online.batch": "finetune.online.batch_size",
    "finetune.rate": "finetune.fixed_lr",
    "meta.batch": "meta.batch_size",
    "meta.max_failures": "meta.max_nonfinite_iterations",
    "meta.mixed": "dataset.augment.copy_paste",
    "meta.multi_step": "meta.multi_step_loss",
    "meta.outer.clip": "meta.outer.max_grad_norm",
    "meta.outer.cosine_to": "meta.outer.min_lr_ratio",
    "meta.outer.name": "meta/outer/optimizer",
    "meta.outer.rates": "meta.outer.inner_lr",
    "meta.outer.rates.decay": "meta.outer.inner_lr.weight_decay",
    "meta.outer.rates.lr": "meta.outer.inner_lr.lr",
    "meta.outer.weights": "meta.outer.optimizer",
    "meta.outer.weights.decay": "meta.outer.optimizer.weight_decay",
    "meta.outer.weights.lr": "meta.outer.optimizer.lr",
    "meta.rates": "meta.inner_lr",
    "meta.rates.clip": "meta.inner_lr.max_grad_norm",
    "meta.rates.init": "meta.inner_lr.init",
    "meta.rates.level": "meta.inner_lr.level",
    "meta.rates.log": "meta.inner_lr.log",
    "meta.rates.max": "meta.inner_lr.max",
    "parent.batch": "parent.batch_size",
    "parent.decay": "parent.optimizer.weight_decay",
    "parent.lr": "parent.optimizer.lr",
    "report": "final_eval",
    "report.hold_out": "final_eval.exclude_from_training",
    "report.rates": "final_eval.lr_grid",
    "report.strips": "final_eval.visualisations",
    "report.tuning_videos": "final_eval.selection_videos",
    "schedule": "experiment",
    "schedule=hours": "experiment=small",
    "segmenter=semantic": "segmenter=light_deeplab",
    "segmenter.rates": "segmenter.dilations",
    "trainer.log_every": "trainer.log_every_n_steps",
    "trainer.progress": "trainer.enable_progress_bar",
    "trainer.workers": "trainer.num_workers",
}


def unknown_key(key: str, known: list[str], value: Any = None) -> str:
    """Say what a key that is not there may have been meant for; known: the names beside it.

    value: what it is set to, keys in it included.
    """
    within = [f"{key}.{name}" for name in value] if isinstance(value, Mapping) else [f"{key}={value}"]
    for name in (*within, key):
        if name in RENAMED:
            return f"{name} is renamed to {RENAMED[name]}"
    path, dot, name = key.rpartition(".")
    return f"there is no key {key}: {suggest(name, known, path + dot)}"
