"""A run is resumed with its own settings only: which may change, and that all others are refused by name."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import changed
from settings_table import ROWS, overrides_of
from torch import nn

from eosvos.config.checks import check
from eosvos.errors import UserError
from eosvos.evaluation.start import with_checkpoint
from eosvos.meta.model import Model, build_learner
from eosvos.meta.stored import KEY, PREFIX, SETTINGS
from eosvos.training.resume import RunInCheckpoint, check_same_run

MAY_CHANGE = {
    # How long, on what hardware, where to, and what is shown.
    *("iterations", "minutes", "parent.steps", "val_every", "val_visualisations", "threads"),
    *("checkpoint", "resume"),
    *("output", "results", "results_format", "overwrite", "trusted", "logger", "callbacks"),
    "progress_bar:leave",
    *("trainer.accelerator", "trainer.devices", "trainer.num_workers", "trainer.log_every_n_steps"),
    *("trainer.matmul_precision", "trainer.channels_last", "trainer.benchmark", "trainer.compile"),
    *("trainer.save_minutes", "trainer.enable_progress_bar"),
    # What only validation, the final evaluation and segmenting look at.
    *("final_eval.lr_grid", "final_eval.visualisations", "final_eval.selection_videos"),
    "final_eval.initialisation",
    *(setting for setting in ROWS if setting.startswith("finetune.")),
    *(setting for setting in ROWS if setting.partition(":")[2].startswith(("val.", "test."))),
    *("MaskRCNN:nms_threshold", "MaskRCNN:score_threshold", "MaskRCNN:rpn_proposals_test"),
    *("MaskRCNN:prior_proposals", "MaskRCNN:proposals", "MaskRCNN:select"),
    *("DeepLabV3:prior", "DeepLabV3:gate_margin", "LightDeepLab:prior", "LightDeepLab:gate_margin"),
    # Where the same data lie.
    *("Davis:root", "Davis:train.root", "YouTubeVOS:root", "YouTubeVOS:train.root"),
    *("Folder:images", "Folder:train.images", "Folder:masks", "Folder:train.masks"),
    *("Video:video", "Video:train.video", "Video:masks", "Video:train.masks"),
    *("Folder:root", "Folder:train.root", "Images:root", "Images:train.root", "VOC2012:root"),
    *("VOC2012:train.root", "Coco:images", "Coco:train.images", "Coco:annotations", "Coco:train.annotations"),
}
"""Settings that a resumed run may have otherwise."""

SAID = {"final_eval.exclude_from_training": "excluded_videos"}
"""What a refusal calls a setting, unless it is the last part of its name."""

# Loggers and networks are built of what is compared as a whole.
COMPARED = [
    setting
    for setting in ROWS
    if setting.partition(":")[0] not in ("csv", "tensorboard", "wandb", "TorchvisionResNet", "TimmBackbone")
    # Nothing that trains no iteration is resumed.
    and not (ROWS[setting].base.endswith("iterations=0") and setting.startswith("Video:"))
]


@pytest.fixture(scope="module")
def resume(run_of, tmp_path_factory) -> Callable[[str], None]:
    """Resume a run of a row's base with the row's change, and raise what comes of it."""
    folder = tmp_path_factory.mktemp("resumed")
    made: dict[str, tuple[Path, nn.Module]] = {}

    def saved(base: str) -> tuple[Path, nn.Module]:
        if base not in made:
            config, path = run_of(base).config, folder / f"{len(made)}.ckpt"
            learner = build_learner(Model.of(config), config.seed)
            state = {PREFIX + name: value for name, value in learner.state_dict().items()}
            store = RunInCheckpoint(config, "meta")
            content = {KEY: store.content, SETTINGS: store.settings, "iteration": 1}
            torch.save({**content, "state_dict": state}, path)
            made[base] = path, learner
        return made[base]

    def resumed(setting: str) -> None:
        base, change = overrides_of(setting, ROWS[setting])
        path, learner = saved(base)
        after = check(changed(run_of(base, change).cfg, f"checkpoint='{path}'", "resume=true"))
        keys = [override.lstrip("+").partition("=")[0] for override in change.split()]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("eosvos.evaluation.start.overrides", lambda: keys)
            patch.setattr("eosvos.meta.checkpoint.build_learner", lambda *_, **__: learner)
            config, loaded = with_checkpoint(after)
        assert loaded is not None
        check_same_run(config, loaded)

    return resumed


@pytest.mark.parametrize("setting", COMPARED)
def test_a_changed_setting_is_refused_by_name_unless_it_may_change(resume, setting, caplog):
    if setting in MAY_CHANGE:
        resume(setting)
        # Validations with other settings of fine-tuning are others.
        assert ("best.ckpt is chosen among" in caplog.text) == setting.startswith("finetune.")
        return
    with pytest.raises(UserError) as caught:
        resume(setting)
    assert SAID.get(setting, setting.rpartition(":")[2].rpartition(".")[2]) in str(caught.value)
