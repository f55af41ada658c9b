"""What a run imports, and when: seconds of waiting that no row is trained in.

Measured with -X importtime for a run of a csv file, 4.3 s in all: torch 2.1 s (half of it torch._dynamo), sympy for it
0.4 s, scipy 0.6 s, transformers 0.5 s, all else 0.7 s. transformers' modelling code asks for scipy.optimize and
torch._dynamo by itself, whatever a run needs. What is named below none needs, or none so soon.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.training.testing.user_folder import write_inputs

# datasets takes 0.6 s, of which pandas 0.25.
NEVER = ("datasets", "pandas", "matplotlib", "sklearn", "onnx", "onnxruntime", "torchvision", "tensorboard")
LATER = ("transformers", "accelerate", "scipy", "PIL")

RESOLVE = """
import sys
from pathlib import Path
from src.training.recipes.recipe import Recipe
from src.training.run.resolved_run import resolve_run
resolve_run(Recipe(model_name_or_path="base", train_file="train.csv"), folder=Path.cwd())
before = set(sys.modules)
import src.training.run.training_run
print(*sorted(name for name in before if "." not in name))
print(*sorted(name for name in sys.modules if "." not in name))
"""
RUN = """
import sys
from src.training.train_model import main
flags = "--model_name_or_path base --train_file train.csv --max_seq_length 16 --num_train_epochs 1 --threads 1"
assert main(flags.split()) == 0
print(*sorted(sys.modules))
"""


@pytest.fixture
def user_folder(tmp_path: Path) -> Path:
    return write_inputs(tmp_path, train=40)


def lines_of(program: str, user_folder: Path) -> list[str]:
    """Runs a program in a process of its own; returns the lines it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEST_")}
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "BUILD_WORKING_DIRECTORY": str(user_folder), "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=user_folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    ).stdout.splitlines()


def test_a_run_is_resolved_without_torch_and_its_session_imported_without_transformers(user_folder: Path) -> None:
    resolved, session = (set(line.split()) for line in lines_of(RESOLVE, user_folder))
    assert "csv" in resolved
    assert not resolved & {"torch", "pyarrow", *LATER, *NEVER}
    assert "torch" in session
    assert not session & {*LATER, *NEVER}


def test_a_run_of_a_csv_file_never_imports_what_only_others_need(user_folder: Path) -> None:
    loaded = set(lines_of(RUN, user_folder)[-1].split())
    assert "transformers" in loaded
    assert not loaded & set(NEVER)
