"""Every setting does something, and what it does is seen at the end of its way.

A row's change is seen at what the setting configures, after all that lies between: Lightning's fit and the
filling of tables are replaced by notes of what they are given.
"""

import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from settings_table import BASES, ROWS, TINY, all_settings, overrides_of
from torch import nn

from eosvos.config.help import options
from eosvos.errors import UserError
from eosvos.training.train import initialisation


def test_every_declared_setting_has_a_row_and_every_row_a_setting():
    assert set(ROWS) == all_settings()


@pytest.mark.parametrize("setting", ROWS)
def test_a_changed_setting_arrives(run_of, setting):
    row = ROWS[setting]
    base, change = overrides_of(setting, row)
    before, after = row.see(run_of(base)), row.see(run_of(base, change))
    assert len(before) == len(after) > 0
    same = [i for i, (one, other) in enumerate(zip(before, after, strict=True)) if one == other]
    assert not same, f"{change} changes nothing at {same}"


DATASETS = {found[1]: base for base in BASES.values() if (found := re.search(r"dataset=(\w+)", base))}
DATASETS["davis2016"] = DATASETS["davis2017"].replace("davis2017", "davis2016")
DATASETS["procedural"] = DATASETS["synthetic"].replace("synthetic", "procedural")


@pytest.mark.parametrize("dataset", sorted({*options("dataset")} - {"mixture", "youtube_vos_davis2017"}))
def test_no_video_is_trained_on_and_reported_on(run_of, dataset):
    videos = run_of(f"{TINY} {DATASETS[dataset]} final_eval.selection_videos=0").videos
    [train] = videos.train
    pool = [train.videos[i] for i in range(min(len(train.videos), 20))]
    trained = {(entry[0] if isinstance(entry, tuple) else entry).name for entry in pool}
    validated, reported = ({video.name for video in part} for part in (videos.val[""], videos.test[""]))
    assert trained
    assert validated
    assert reported
    if dataset in ("folder", "video"):
        assert trained == validated == reported, "a folder has no splits, and its file says so"
    else:
        assert not trained & reported
        assert not trained & validated
    # What is reported on is what the best checkpoint was chosen by, but for procedural videos.
    assert dataset not in ("synthetic", "procedural") or not validated & reported


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple:
        return os.system, (f"touch '{self.touched}'",)


def test_nothing_in_the_files_of_a_resumed_run_is_executed(run_of, tmp_path):
    resumed = run_of(f"{TINY} {BASES['Synthetic']} {ROWS['resume'].base}", "resume=true")
    assert resumed.meta.options["weights_only"] is True
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    torch.save({"weights": Hostile(tmp_path / "touched")}, folder / "initialisation.pt")
    (folder / "last.ckpt").touch()
    config = run_of(f"{TINY} {BASES['Synthetic']}", f"checkpoint={folder / 'last.ckpt'}").config
    with pytest.raises((UserError, pickle.UnpicklingError)):
        initialisation(config, nn.Linear(1, 1), resumed=True)
    assert not (tmp_path / "touched").exists()
