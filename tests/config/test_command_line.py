"""How many processes train where none are asked for."""

import pytest
from eosvos.run import command_line
from eosvos.run.help import CONF
from eosvos.run.schema import register
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig


@pytest.fixture
def devices(monkeypatch):
    """The number of processes of train.py (or evaluate.py) with overrides, on so many cores."""
    register()
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def of(*overrides, cores=4, mode="RUN", entry="train"):
        monkeypatch.setattr(command_line, "cores", lambda: cores)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            options = [*overrides, f"hydra.mode={mode}"]
            cfg = compose(entry, overrides=options, return_hydra_config=True)
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
        (("meta.batch=6",), 4, 3),
        (("meta.batch=6", "parent.steps=1"), 4, 2),
        (("trainer.accelerator=auto",), 8, 1),
        (("meta.batch=5",), 4, 1),
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


def test_evaluation_is_one_process(devices):
    assert devices(entry="evaluate") == 1


def test_without_a_command_line_there_is_one_process(monkeypatch):
    register()
    monkeypatch.setattr(command_line, "cores", lambda: 8)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose("train").trainer.devices == 1
