"""Loggers are there before work, or say why not."""

import pytest
from eosvos.run.loggers import start_loggers

from eosvos.errors import UserError


def test_wandb_without_a_key_is_one_sentence(compose, tmp_path, monkeypatch):
    for variable in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(UserError, match="WANDB_API_KEY") as refused:
        start_loggers(compose("logger=wandb"))
    assert "\n" not in str(refused.value)
    assert "logger.wandb.offline=true" in str(refused.value)


def test_no_logger_at_all(compose):
    assert start_loggers(compose("logger=[]")) == []
