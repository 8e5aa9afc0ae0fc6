"""A job of a sweep that is started again, and what is asked of a sweep's launcher."""

import json

import pytest
from helpers import command_line, compose
from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from eosvos.compat.hydra import load_job, store_job, without_hydra
from eosvos.config.command_line import job_overrides, run_mode
from eosvos.errors import UserError
from eosvos.evaluation.provenance import record_run
from eosvos.sweep.checks import Checks, prepare
from eosvos.sweep.jobs import begin, is_finished

RUN = ("hydra.runtime.output_dir=run", "hydra.job.num=3")
MULTIRUN = ("hydra.mode=MULTIRUN", *RUN)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of a job, run, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def begun(place, *overrides):
    """Begin a job as a sweep does, and be interrupted."""
    with command_line(*overrides, *MULTIRUN) as cfg:
        record_run(prepare(cfg)[0])
    (place / "checkpoints").mkdir(exist_ok=True)


def again(*overrides):
    with command_line(*overrides, *MULTIRUN) as cfg:
        config, _ = prepare(cfg)
        return config, is_finished(config)


def test_an_interrupted_job_goes_on_from_its_latest_stage(place):
    begun(place, "seed=1")
    assert not again("seed=1")[0].resume
    for name in ("parent-last.ckpt", "last.ckpt"):
        (place / "checkpoints" / name).touch()
        config, finished = again("seed=1")
        assert (config.resume, finished) == (True, False)
        assert config.checkpoint == f"run/checkpoints/{name}"
    config, _ = again("seed=1", "overwrite=true")
    assert not config.resume


def test_a_job_with_other_settings_is_refused(place):
    begun(place, "seed=1")
    (place / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(UserError, match="holds another run"):
        again("seed=2")
    with command_line("seed=1", *RUN) as cfg, pytest.raises(UserError, match="holds another run"):
        prepare(cfg)


def test_a_finished_job_is_skipped_and_an_evaluation_is_done_again(place, capsys):
    begun(place, "seed=1")
    (place / "report.json").write_text(json.dumps([]))
    with command_line("seed=1", *MULTIRUN) as cfg:
        config, _ = prepare(cfg)
        assert not begin(config, training=True)
        assert "is finished: run" in capsys.readouterr().out
        assert (place / "report.json").exists()
        assert begin(config, training=False)
    assert not (place / "report.json").exists()


def test_a_stored_job_is_the_same_in_another_process(place):
    with command_line("seed=7", "trainer.devices=2", *MULTIRUN) as cfg:
        hydra = HydraConfig.get().job
        store_job(place / "job.yaml", cfg)
        said = job_overrides()
    assert run_mode() is None
    try:
        loaded = load_job(place / "job.yaml", with_log=False)
        assert loaded == OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
        assert (run_mode().name, job_overrides(), HydraConfig.get().job) == ("MULTIRUN", said, hydra)
    finally:
        HydraConfig.instance().cfg = None


@pytest.mark.parametrize("count", ["tasks_per_node", "nodes"])
def test_a_launcher_must_not_start_a_job_twice(place, capsys, count):
    cfg = compose("hydra/launcher=slurm", f"hydra.launcher.{count}=2", *MULTIRUN, return_hydra_config=True)
    with pytest.raises(SystemExit):
        Checks(training=True).on_multirun_start(cfg)
    assert f"hydra.launcher.{count}=2 would do each job 2 times" in capsys.readouterr().err


def test_slurm_gives_a_job_a_gpu_for_each_of_its_processes():
    launcher = compose("hydra/launcher=slurm", "trainer.devices=4", return_hydra_config=True).hydra.launcher
    assert (launcher.gpus_per_node, launcher.tasks_per_node) == (4, 1)
    assert launcher._target_.endswith("SlurmLauncher")


def test_a_sweep_shares_each_job_among_processes(place):
    with command_line("trainer.devices=2", *MULTIRUN) as cfg:
        assert prepare(cfg)[0].trainer.devices == 2
    assert without_hydra(compose(return_hydra_config=True)) == compose()


@pytest.mark.parametrize("event", ["on_run_start", "on_multirun_start"])
def test_an_error_in_the_checks_ends_the_program_with_its_traceback(capsys, monkeypatch, event):
    def broken(*_):
        raise LookupError("nobody thought of it")

    monkeypatch.setattr("eosvos.sweep.checks.search_settings", broken)
    callbacks = Callbacks()
    callbacks.callbacks = [Checks(training=True)]
    with pytest.raises(SystemExit) as end:
        getattr(callbacks, event)(compose(*MULTIRUN, return_hydra_config=True))
    assert end.value.code == 1
    assert "LookupError: nobody thought of it" in capsys.readouterr().err
