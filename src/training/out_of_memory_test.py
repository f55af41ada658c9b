"""A run that cannot fit into memory is refused before it starts."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from src.training.testing.forked_runs import load_libraries, run_program
from src.training.testing.tiny_model import build_tiny_model, write_sentences
from src.training.train_model import main


@pytest.fixture(autouse=True, scope="module")
def libraries() -> None:
    load_libraries()


def main_in_little_memory(arguments: list[str]) -> int:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + 2200 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return main(arguments)


@pytest.mark.parametrize(("batch", "code"), [("64", 2), ("4", 0)])
def test_a_run_that_cannot_fit_is_refused_before_it_starts(tmp_path: Path, batch: str, code: int) -> None:
    build_tiny_model(tmp_path / "base", positions=2048)
    for name, rows in (("train.csv", 64), ("test.csv", 8)):
        write_sentences(tmp_path / name, rows=rows, seed=1)
    long = " very" * 1500
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text((tmp_path / name).read_text().replace(" was", f" was{long}", 1))
    arguments = ["--model_name_or_path", "base", "--train_file", "train.csv", "--test_file", "test.csv"]
    arguments += ["--max_seq_length", "1500", "--output_dir", "out", "--threads", "1", "--num_train_epochs", "1"]
    arguments += ["--per_device_train_batch_size", batch, "--per_device_eval_batch_size", "4"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEST_")}
    environment |= {"BUILD_WORKING_DIRECTORY": str(tmp_path)}
    done = run_program(main_in_little_memory, *arguments, environment=environment)
    errors = done.stderr.decode()
    assert done.returncode == code, errors
    if code:
        assert " rows of up to 1500 tokens" in errors
        assert errors.splitlines()[-1].startswith("train_model: training needs about")
        assert not list(tmp_path.glob("out*"))
