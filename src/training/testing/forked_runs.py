"""Runs of programs in forked processes, which a test may kill at any instant.

The libraries are loaded once, by the process that forks: a run then takes a fraction of a second. What a program sets
before it loads them has no effect.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_OPERATIONS = ("open", "os.rename", "os.mkdir", "os.chmod", "os.remove", "os.rmdir", "shutil.rmtree")
_GIVE_UP_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Aim:
    """The instant just before a file operation.

    Attributes:
        path: pattern in the path of the operation that counting begins with.
        event: the kind of that operation, as `os.rename`; any by default.
        operations: how many more operations, on any path, happen before the instant.
    """

    path: str
    event: str = ""
    operations: int = 0


def load_libraries() -> None:
    """Loads what every run needs, without a thread of its own: a fork copies none.

    To be called before anything loads numpy.
    """
    # numpy's and scipy's own; torch starts its threads when it first needs more than one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # pyarrow's allocator starts one as soon as it is loaded.
    os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    # The hub's client reads it once.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # tokenizers' own, as soon as this process itself encodes texts.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import peft.tuners.lora  # noqa: F401
    import pyarrow.csv  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch
    from transformers import BertForSequenceClassification, BertTokenizer  # noqa: F401
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping
    from transformers.utils.logging import disable_progress_bar

    import src.training.run.resolved_run
    import src.training.run.training_run  # noqa: F401

    # Compiles a thousand patterns, once a process.
    get_checkpoint_conversion_mapping("bert")
    # For what this process itself does: a progress bar has a thread too.
    disable_progress_bar()
    torch.set_num_threads(1)


def start(work: Callable[[], int], *, log: Path, errors: Path | None = None) -> int:
    """Forks; the child's exit code is what `work` returns. Returns the child's process id.

    Args:
        work: what the child does.
        log: file that takes the child's standard output.
        errors: file that takes its standard error; None: the same.

    Raises:
        RuntimeError: this process has more than one thread.
    """
    if len([*Path("/proc/self/task").glob("*")]) > 1:
        raise RuntimeError("this process has threads: a fork may inherit a lock held by one of them")
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        other = target if errors is None else os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for number, name, file in ((1, "stdout", target), (2, "stderr", other)):
            os.dup2(file, number)
            setattr(sys, name, os.fdopen(number, "w", buffering=1))
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        # The forking process cleans up its own files and tests.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def start_run(arguments: Sequence[str], *, log: Path, aim: Aim | None = None) -> int:
    """Forks a run of train_model; returns its process id.

    Args:
        arguments: its command line.
        log: takes what it prints.
        aim: the instant at which it kills itself by SIGKILL, which no program survives or notices.
    """

    def work() -> int:
        from src.training.train_model import main

        if aim is not None:
            sys.addaudithook(_killer(aim))
        return main([*arguments])

    return start(work, log=log)


def run_program(
    program: Callable[[list[str]], int],
    *arguments: str,
    environment: Mapping[str, str],
    folder: Path | None = None,
    lines: bytes = b"",
) -> subprocess.CompletedProcess[bytes]:
    """Runs a program's main in a forked process, as `subprocess.run` would the program.

    Args:
        program: its main.
        *arguments: its command line.
        environment: all of the child's.
        folder: where it runs; None: where this process does.
        lines: what it reads on standard input.
    """
    with tempfile.TemporaryDirectory() as scratch:
        given, log, errors = (Path(scratch, name) for name in ("stdin", "stdout", "stderr"))
        given.write_bytes(lines)

        def work() -> int:
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(folder or ".")
            os.dup2(os.open(given, os.O_RDONLY), 0)
            sys.stdin = os.fdopen(0)
            return program([*arguments])

        code = wait(start(work, log=log, errors=errors))
        return subprocess.CompletedProcess(arguments, code, log.read_bytes(), errors.read_bytes())


def _killer(aim: Aim) -> Callable[[str, tuple[Any, ...]], None]:
    """Returns an audit hook (PEP 578), which Python calls before each file operation of its own."""
    left, pattern = -1, re.compile(aim.path)

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in _OPERATIONS or not arguments:
            return
        if left < 0 and event.startswith(aim.event) and pattern.search(str(arguments[0])):
            left = aim.operations + 1
        if left > 0:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    return count


def wait(process: int) -> int:
    """Waits for a child; returns its exit code, or the negative number of the signal that ended it.

    Raises:
        TimeoutError: it does not end; it is killed.
    """
    give_up = time.monotonic() + _GIVE_UP_SECONDS
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > give_up:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            raise TimeoutError(f"a run did not end within {_GIVE_UP_SECONDS:g} seconds")
        time.sleep(0.002)
