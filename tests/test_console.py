"""What a command prints."""

import logging

import pytest

from eosvos.console import say


@pytest.fixture
def root_logger():
    logger = logging.getLogger()
    before = list(logger.handlers)
    yield logger
    logger.handlers[:] = before


def test_a_line_is_printed_once_and_written_into_the_log_that_is_open(root_logger, tmp_path, capsys):
    closed, opened = (logging.FileHandler(tmp_path / name) for name in ("closed.log", "opened.log"))
    root_logger.handlers[:] = [closed, opened]
    closed.close()
    say("J [0.7]")
    opened.close()
    assert capsys.readouterr().out == "J [0.7]\n"
    assert [(tmp_path / name).read_text() for name in ("closed.log", "opened.log")] == ["", "J [0.7]\n"]
