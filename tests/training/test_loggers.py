"""Loggers are there before work, or say why not."""

import pytest
import pytorch_lightning as pl
import wandb
from helpers import LIGHT, SMALL, config, prepared
from wandb_file import configuration, records

from eosvos.errors import Pruned, UserError
from eosvos.training.loggers import keep_log, start_loggers
from eosvos.training.train import train


def test_wandb_without_a_key_is_one_sentence(tmp_path, monkeypatch):
    for variable in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(UserError, match="WANDB_API_KEY") as refused:
        start_loggers(config("logger=wandb", output=tmp_path / "run"))
    assert "\n" not in str(refused.value)
    assert "logger.wandb.offline=true" in str(refused.value)


def test_artifacts_of_an_offline_run_are_refused_in_one_sentence():
    with pytest.raises(UserError, match=r"logger: .*log_model=True") as refused:
        start_loggers(config("logger=wandb", "logger.wandb.offline=true", "logger.wandb.log_model=true"))
    assert "\n" not in str(refused.value)


def test_no_logger_at_all():
    assert start_loggers(config("logger=[]")) == []


def test_loggers_write_into_the_folder_of_the_run(tmp_path):
    loggers = start_loggers(config("logger=[csv,tensorboard]", output=tmp_path / "run"))
    assert len(loggers) == 2
    for logger in loggers:
        assert isinstance(logger, pl.loggers.Logger)
        assert logger.log_dir.startswith(str(tmp_path / "run"))


@pytest.fixture
def offline(monkeypatch):
    """W&B offline, which the process remembers until it is told to forget."""
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    wandb.teardown()


@pytest.mark.usefixtures("offline")
def test_a_run_that_fails_or_is_pruned_is_at_its_end_in_wandb_before_the_next_begins(tmp_path, monkeypatch):
    ends = [UserError("a frame is broken"), Pruned("it is worse than others")]
    for seed, end in enumerate(ends):

        def stop(*_, end=end):
            raise end

        monkeypatch.setattr("eosvos.training.train.fit_stages", stop)
        with pytest.raises(type(end)):
            train(*prepared(*SMALL, LIGHT, "logger=wandb", f"seed={seed}", output=tmp_path / str(seed)))
    # When it ends, W&B has written all.
    wandb.teardown()
    for seed, status in enumerate((1, 0)):
        assert configuration(tmp_path / str(seed) / "wandb")["seed"] == seed
        [last] = [one.exit for one in records(tmp_path / str(seed) / "wandb") if one.HasField("exit")]
        assert last.exit_code == status


def test_a_log_takes_the_place_of_no_other(tmp_path):
    logs = tmp_path / "csv"
    logs.mkdir()
    for name in ("metrics.csv", "metrics-2.csv"):
        (logs / name).write_text(name)
    keep_log(tmp_path)
    (logs / "metrics.csv").write_text("next")
    keep_log(tmp_path)
    texts = {path.name: path.read_text() for path in logs.iterdir()}
    assert texts == {
        "metrics-1.csv": "metrics.csv",
        "metrics-2.csv": "metrics-2.csv",
        "metrics-3.csv": "next",
    }
