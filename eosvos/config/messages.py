"""How a command ends: what went wrong in one sentence on stderr, and the exit status.

Imports nothing of weight, so that a signal is answered quietly from the first moment.
"""

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from eosvos.errors import Interrupted, UserError
from eosvos.processes import (
    forget_signals,
    interrupt,
    interruption,
    is_rank_zero,
    raise_if_interrupted,
    take_signals_alone,
)

# Goes into the log of the run alone: what it says is printed anyway.
_log = logging.getLogger("eosvos.printed")
_log.addHandler(logging.NullHandler())


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
        raise_if_interrupted()
    except (Exception, Interrupted) as error:
        # A library may have made another error of a signal.
        status = _said(error if isinstance(error, Interrupted) else interruption() or error)
        if status is None:
            raise
        sys.exit(status)
    finally:
        forget_signals()


@contextmanager
def job_errors(sweep: bool) -> Iterator[None]:
    """As `user_errors`, around the work of one job, whose log takes tracebacks, too.

    In a sweep the job's error is said at once, and Hydra goes on with the next job; a signal ends the sweep.
    """
    try:
        with user_errors():
            yield
    except SystemExit as end:
        if not sweep or end.code not in (1, UserError.status):
            raise
    except Exception as error:
        _log.exception("the run failed")
        if not sweep:
            raise
        traceback.print_exception(error)


def _said(error: Exception | Interrupted) -> int | None:
    """Print what has gone wrong in a sentence; returns the exit status, None if there is no such sentence."""
    if isinstance(error, Interrupted) and not is_rank_zero():
        # A signal reaches all processes, and another status than 0 would end the main one, which says it.
        return 0
    message: str | None = "; ".join([str(error), *getattr(error, "__notes__", ())])
    if not isinstance(error, UserError | Interrupted):
        from eosvos.config.explain import explain

        message = explain(error)
    if message is None:
        return None
    _log.error(message)
    print(f"error: {message}", file=sys.stderr, flush=True)
    return getattr(error, "status", UserError.status)
