"""What ends a run early, and the exit code it ends with."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import sys
import traceback
from collections.abc import Callable

from src.cli.standard_output import discard, flush_or_discard, is_unread, open_closed_streams
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


class MachineError(RequestError):
    """The request is valid, but this machine cannot do it now: another can, or this one later."""


class StopRequested(BaseException):
    """SIGINT, SIGTERM or the deadline ended the run.

    A BaseException, as KeyboardInterrupt is: no `except Exception` of a library may swallow it.
    """


UNEXPECTED = "unexpected: report it, with the command and what --debug shows"
# pathlib's, for `~` and for what is kept below it.
_NO_HOME = "Could not determine home directory."


def in_one_line(error: Exception, *, limit: int) -> str:
    """Returns the words of another library's error, no more than so many characters; its kind, if it has none."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def exit_code_of(
    program: str, work: Callable[[], int], *, debug: bool, retry: str = "rerun the command", answers: bool = False
) -> int:
    """Runs a program's work and returns its exit code; prints an error as one sentence on standard error.

    Args:
        program: its name, with which the sentence begins.
        work: the program; returns its exit code.
        debug: whether an error's traceback is shown too.
        retry: what to do once there is space on the disk.
        answers: whether all that comes of the work is what it prints: with standard output closed it is refused.
    """
    # Python would look for garbage among all of torch's and transformers' objects: while they are made, by the default
    # of 700 a tenth of that time, and 1.4 s as it ends.
    gc.set_threshold(50_000)
    atexit.register(gc.freeze)
    was_closed = open_closed_streams()
    ended: BaseException
    try:
        if was_closed and answers:
            raise RequestError("standard output is closed, and the answer goes there: redirect it to a file")
        code = work()
        # Otherwise it would be Python that finds, at its exit, that the disk is full.
        sys.stdout.flush()
        return code
    except SystemExit:
        # argparse's, after --help.
        flush_or_discard()
        raise
    except RequestError as error:
        code, message, ended = EXIT_WRONG_REQUEST, str(error), error
    except (StopRequested, KeyboardInterrupt) as error:
        code, message, ended = EXIT_STOPPED, f"stopped ({error}): rerun the command to resume", error
    except OSError as error:
        if isinstance(error, BrokenPipeError) and is_unread():
            # `| head`: the reader has seen enough.
            discard(sys.stdout)
            return EXIT_DONE
        code, message, ended = EXIT_FAILED, str(error), error
    except Exception as error:
        code, message, ended = EXIT_FAILED, f"{type(error).__name__}: {error} ({UNEXPECTED})", error
        if str(error) == _NO_HOME:
            code = EXIT_WRONG_REQUEST
            message = "there is no home folder, for ~ or for caches: set HOME, or FINETUNE_CACHE_DIR and whole paths"
    # Libraries wrap it in errors of their own.
    if code == EXIT_FAILED and os.strerror(errno.ENOSPC) in message:
        message = f"the disk is full: free some space, and {retry}"
    if debug:
        lines = "".join(traceback.format_exception(ended)).splitlines()
        sys.stderr.writelines(f"{printable(line)}\n" for line in lines)
    flush_or_discard()
    message = " ".join(message[:_MAX_MESSAGE].split()) + "..." * (len(message) > _MAX_MESSAGE)
    sys.stderr.write(f"{program}: {printable(message)}\n")
    return code
