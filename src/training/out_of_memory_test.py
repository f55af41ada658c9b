"""A run that cannot fit into memory is refused before it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.training.testing.tiny_model import build_tiny_model, write_sentences


@pytest.mark.parametrize(("batch", "code"), [("64", 2), ("4", 0)])
def test_a_run_that_cannot_fit_is_refused_before_it_starts(tmp_path: Path, batch: str, code: int) -> None:
    build_tiny_model(tmp_path / "base", positions=2048)
    for name, rows in (("train.csv", 64), ("test.csv", 8)):
        write_sentences(tmp_path / name, rows=rows, seed=1)
    long = " very" * 1500
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text((tmp_path / name).read_text().replace(" was", f" was{long}", 1))
    program = (
        "import resource, sys, torch, src.training.run.training_run, scipy.stats, pyarrow.csv\n"
        "from src.training.train_model import main\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "limit = used + 2200 * 2**20\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["--model_name_or_path", "base", "--train_file", "train.csv", "--test_file", "test.csv"]
    arguments += ["--max_seq_length", "1500", "--output_dir", "out", "--threads", "1", "--num_train_epochs", "1"]
    arguments += ["--per_device_train_batch_size", batch, "--per_device_eval_batch_size", "4"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEST_")}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment | {"BUILD_WORKING_DIRECTORY": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    if code:
        assert " rows of up to 1500 tokens" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("train_model: training needs about")
        assert not list(tmp_path.glob("out*"))
