"""What ends a run early, and the exit code it ends with."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable

from src.cli.terminal import printable

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_WRONG_REQUEST = 2
EXIT_STOPPED = 3

# A value that someone else wrote may stand in a message.
_MAX_MESSAGE = 4000


class RequestError(Exception):
    """The request is invalid: a flag, a recipe, data, or something that is not available offline.

    The message is one sentence that says what is wrong and what to do.
    """


class StopRequested(BaseException):
    """SIGINT, SIGTERM or the deadline ended the run.

    A BaseException, as KeyboardInterrupt is: no `except Exception` of a library may swallow it.
    """


def exit_code_of(program: str, work: Callable[[], int], *, debug: bool, retry: str = "rerun the command") -> int:
    """Runs a program's work and returns its exit code; prints an error as one sentence on standard error.

    Args:
        program: its name, with which the sentence begins.
        work: the program; returns its exit code.
        debug: whether an error's traceback is shown too.
        retry: what to do once there is space on the disk.
    """
    try:
        return work()
    except RequestError as error:
        code, message = EXIT_WRONG_REQUEST, str(error)
    except (StopRequested, KeyboardInterrupt) as stopped:
        code, message = EXIT_STOPPED, f"stopped ({stopped}): rerun the command to resume"
    except OSError as error:
        code, message = EXIT_FAILED, str(error)
    except Exception as error:
        code, message = EXIT_FAILED, f"{type(error).__name__}: {error} (--debug shows where)"
    # Libraries wrap it in errors of their own.
    if code == EXIT_FAILED and os.strerror(errno.ENOSPC) in message:
        message = f"the disk is full: free some space, and {retry}"
    if debug:
        sys.stderr.writelines(f"{printable(line)}\n" for line in traceback.format_exc().splitlines())
    message = " ".join(message[:_MAX_MESSAGE].split()) + "..." * (len(message) > _MAX_MESSAGE)
    sys.stderr.write(f"{program}: {printable(message)}\n")
    return code
