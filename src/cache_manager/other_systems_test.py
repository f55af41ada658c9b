"""Training and cache where what only Linux has is taken away, as on macOS: /proc, control groups, fork, OpenBLAS."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from threadpoolctl import ThreadpoolController

from src.cache_manager.cached_train import cached_train
from src.cache_manager.demo import demo
from src.cache_manager.keys.machine import deciding_machine
from src.cache_manager.store.store import Store
from src.cache_manager.testing.run_inputs import RUN_FLAGS, write_run_inputs
from src.disk.durable import share
from src.disk.owner import is_abandoned, unique_name
from src.training.engine import data_parallel, process_group
from src.training.environment import cores
from src.training.environment.description import describe_environment
from src.training.environment.memory_limits import available_memory
from src.training.environment.stop_signal import StopSignal
from src.training.run.request import Request, parse_request

_LINUX = (Path("/proc"), Path("/sys"))


def _controller_without_openblas() -> Any:
    controller: Any = ThreadpoolController()
    controller.lib_controllers = [each for each in controller.lib_controllers if each.internal_api != "openblas"]
    return controller


def without_linux(patch: pytest.MonkeyPatch) -> None:
    """Takes away what macOS lacks. psutil, which asks macOS in another way, still sees /proc."""

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENOTSUP, "not on this system")

    def guarded(method: Callable[..., Any], missing: Any = None) -> Callable[..., Any]:
        def call(path: Path, *arguments: Any, **options: Any) -> Any:
            if not any(path.is_relative_to(folder) for folder in _LINUX):
                return method(path, *arguments, **options)
            if missing is not None:
                return missing
            raise FileNotFoundError(errno.ENOENT, "not on this system", str(path))

        return call

    for name, missing in (("open", None), ("read_text", None), ("readlink", None), ("exists", False), ("glob", ())):
        patch.setattr(Path, name, guarded(getattr(Path, name), missing))
    for name in ("sched_getaffinity", "posix_fadvise", "POSIX_FADV_DONTNEED"):
        patch.delattr(os, name)
    patch.setattr(process_group, "_waitid", None)
    patch.setattr(cores, "can_fork", lambda: False)
    patch.setattr(os, "fork", fail)
    patch.setattr(fcntl, "ioctl", fail)
    patch.setattr(data_parallel, "ThreadpoolController", _controller_without_openblas)


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("FINETUNE_CACHE_MAX_SIZE", raising=False)
    write_run_inputs(tmp_path, rows=40)
    return tmp_path


def test_a_model_is_trained_cached_and_loaded_with_the_same_bits(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def request(*, threads: int) -> Request:
        flags = (*RUN_FLAGS, "--num_train_epochs", "1", "--threads", str(threads))
        return parse_request([*flags], default_recipe=lambda: "embedded")

    def weights(store: Store) -> bytes:
        folder, _ = cached_train(request(threads=1), store=store, stop=stop)
        return (folder / "model.safetensors").read_bytes()

    stop = StopSignal(deadline_seconds=None)
    expected = weights(Store(inputs / "here"))
    without_linux(monkeypatch)
    elsewhere = Store(inputs / "elsewhere")
    assert weights(elsewhere) == expected
    # One process, and as many threads.
    figures = demo(request(threads=2), store=elsewhere, stop=stop)["own"]
    assert (figures["hit"], figures["load_seconds"]["cold"]) == (False, None)


def test_the_machine_is_described_by_what_every_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    without_linux(monkeypatch)
    assert cores.available_cores() == os.cpu_count()
    assert available_memory() > 0
    assert isinstance(describe_environment()["cpu"], str)
    machine = deciding_machine("machine")
    assert machine["accelerators"] == [] and set(machine["cpu"]) == {"model name"}


def test_the_instructions_of_an_arm_processor_are_part_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    # Linux on arm64: no `flags`, no `model name`.
    text = "processor\t: 0\nFeatures\t: fp asimd sse4_1like\nCPU implementer\t: 0x41\n\nprocessor\t: 1\n"
    read_text = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda path, *given, **named: text if path == Path("/proc/cpuinfo") else read_text(path, *given, **named),
    )
    assert deciding_machine("machine")["cpu"] == {"instructions": "sse4_1like"}
    assert describe_environment()["cpu"] == "unknown"


def test_the_owner_of_a_file_is_known_by_its_process_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    without_linux(monkeypatch)
    name = unique_name()
    host, boot, namespace, _, started, rest = name.split(".")
    assert (boot, namespace, started) == ("0", "0", "0")
    assert not is_abandoned(name, tmp_path)
    assert is_abandoned(".".join((host, boot, namespace, str(ended.pid), started, rest)), tmp_path)


def test_a_file_that_cannot_be_linked_or_cloned_is_to_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_linux(monkeypatch)
    monkeypatch.setattr(os, "link", lambda *_, **__: fcntl.ioctl(0, 0))
    (tmp_path / "file").touch()
    assert not share(tmp_path / "file", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
