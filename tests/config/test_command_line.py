"""How many processes train where none are asked for."""

import helpers
import pytest
from helpers import compose
from hydra.core.hydra_config import HydraConfig

from eosvos.config import command_line


@pytest.fixture
def devices(monkeypatch):
    """The number of processes of train.py (or evaluate.py) with overrides, on so many cores."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def of(*overrides, cores=4, mode="RUN", entry="train"):
        monkeypatch.setattr(command_line, "cores", lambda: cores)
        cfg = compose(*overrides, f"hydra.mode={mode}", entry=entry, return_hydra_config=True)
        monkeypatch.setattr(HydraConfig.instance(), "cfg", cfg)
        return cfg.trainer.devices

    return of


@pytest.mark.parametrize(
    ("overrides", "cores", "expected"),
    [
        ((), 1, 1),
        ((), 2, 2),
        ((), 3, 2),
        ((), 64, 4),
        (("meta.batch_size=6",), 4, 3),
        (("meta.batch_size=6", "parent.steps=1"), 4, 2),
        (("trainer.accelerator=auto",), 8, 1),
        (("meta.batch_size=5",), 4, 1),
        (("trainer.devices=1",), 8, 1),
        (("trainer=cpu",), 8, 1),
        (("dataset=davis2016",), 8, 1),
    ],
)
def test_processes_share_a_meta_batch_evenly(devices, overrides, cores, expected):
    assert devices(*overrides, cores=cores) == expected


def test_one_process_where_the_command_line_cannot_be_run_again(devices, monkeypatch):
    assert devices(mode="MULTIRUN") == 1
    for variable in ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "7")
            assert devices() == 1


def test_evaluation_shares_built_in_videos_and_takes_one_process_for_others(devices):
    assert devices(entry="evaluate") == 4
    assert devices("dataset=davis2016", entry="evaluate") == 1
    assert devices("trainer.devices=3", entry="evaluate") == 3


def test_what_the_command_line_says():
    with helpers.command_line("seed=3", "+logger.csv.prefix=x", "~logger.csv.version", "trusted=[007]"):
        assert set(command_line.overrides()) >= {"seed", "logger.csv.prefix", "logger.csv.version"}
        assert command_line.overrides()["logger.csv.version"] is None
        assert command_line.overrides()["trusted"] == "[007]"
        assert command_line.overrides()["logger.csv.prefix"] == "x"
        assert "iterations" not in command_line.overrides()
    assert command_line.overrides() == {}


def test_without_a_command_line_there_is_one_process(monkeypatch):
    monkeypatch.setattr(command_line, "cores", lambda: 8)
    assert compose().trainer.devices == 1
