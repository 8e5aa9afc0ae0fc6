"""How a command ends: what went wrong in one sentence on stderr, and the exit status.

Imports nothing of weight, so that a signal is answered quietly from the first moment.
"""

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eosvos.errors import Interrupted, UserError
from eosvos.processes import interrupt, is_rank_zero, take_signals_alone

MISTAKE = 2
"""The exit status where the user's input is at fault."""
# Goes into the log of the run alone: what it says is printed anyway.
_log = logging.getLogger("eosvos.printed")
_log.addHandler(logging.NullHandler())


class JobFailedError(Exception):
    """A job of a sweep has failed, which has been said."""

    count = 0


@contextmanager
def user_errors() -> Iterator[None]:
    """End the program with one sentence and a status.

    2: the user's input is at fault; 130: Ctrl-C; 143: SIGTERM; 1: jobs of a sweep failed. Other errors keep
    their traceback.
    """
    take_signals_alone(interrupt)
    # Hydra then raises what goes wrong while it composes instead of printing it.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
        return
    except Interrupted as error:
        # Processes that end with another status than 0 would end the main one, which says it.
        message, status = _with_notes(error), 128 + error.number if is_rank_zero() else 0
    except JobFailedError:
        # Those of launchers that have processes of their own are not counted here.
        message, status = f"{JobFailedError.count or 'some'} of the sweep's jobs failed, as said above", 1
    except UserError as error:
        message, status = _with_notes(error), MISTAKE
    except Exception as error:
        from eosvos.config.explain import explain

        explained, status = explain(error), MISTAKE
        if explained is None:
            raise
        message = explained
    # A signal reaches all processes; a mistake that is another's alone must not be lost.
    if is_rank_zero() or status == MISTAKE:
        _log.error(message)
        print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(status)


@contextmanager
def job_errors(sweep: bool) -> Iterator[None]:
    """As `user_errors`, around the work of one job, whose log takes tracebacks, too.

    In a sweep the job's error is said at once, and JobFailedError raised, for Hydra to go on with the
    next job; a signal ends the sweep.
    """
    status: Any = 1
    try:
        with user_errors():
            yield
            return
    except SystemExit as end:
        status = end.code
    except Exception as error:
        _log.exception("the run failed")
        if not sweep:
            raise
        traceback.print_exception(error)
    if sweep and status in (1, MISTAKE):
        JobFailedError.count += 1
        raise JobFailedError
    sys.exit(status)


def _with_notes(error: BaseException) -> str:
    return "; ".join([str(error), *getattr(error, "__notes__", ())])
