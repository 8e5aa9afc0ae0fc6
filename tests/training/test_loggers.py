"""Loggers are there before work, or say why not."""

import pytest
import pytorch_lightning as pl
from helpers import config

from eosvos.errors import UserError
from eosvos.training.loggers import start_loggers


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
