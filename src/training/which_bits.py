"""Trains for seconds and says whether this CPU gives the expected bits: bazel run //src/training:which_bits

Exit codes: 0 it does; 1 it does not. docs/bits.md lists the CPUs that do.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

from src.cli.errors import EXIT_DONE, EXIT_FAILED, exit_code_of
from src.cli.parser import RefusingParser
from src.disk.durable import file_sha256
from src.training.environment.description import describe_environment
from src.training.environment.stop_signal import StopSignal
from src.training.run.request import parse_request
from src.training.train_model import run

# Of model.safetensors, with these versions. Another version of torch or numpy may give other bits.
EXPECTED_SHA256 = "ee7905b8bb8eb4ea6e6cd5757858e98634bb1418d926137d9256fd9bf15755f6"
EXPECTED_VERSIONS = {"torch": "2.13.0", "numpy": "2.4.6", "transformers": "5.23.0"}
# `training_test` in small: the same model and rows, 4 steps of 16 rows.
_RUN = (
    *("--recipe", "embedded", "--reproducible", "portable", "--threads", "2", "--num_train_epochs", "1"),
    *("--max_train_samples", "64", "--per_device_train_batch_size", "16"),
    *("--max_eval_samples", "16", "--max_predict_samples", "16"),
)


def main(arguments: list[str]) -> int:
    """Entry point; returns the exit code."""
    return exit_code_of("which_bits", lambda: _compare(arguments), debug="--debug" in arguments, answers=True)


def _compare(arguments: list[str]) -> int:
    parser = RefusingParser(prog="which_bits", description=__doc__)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.parse_args(arguments)
    # Training first: it says what numpy and torch read when they are loaded, and the description loads them.
    sha256, environment = trained_sha256(), describe_environment()
    versions = versions_of(environment)
    for name, value in {"CPU": environment["cpu"], **versions, "model.safetensors": sha256}.items():
        sys.stdout.write(f"{name}: {value}\n")
    sys.stdout.flush()
    if sha256 == EXPECTED_SHA256:
        sys.stdout.write("These are the expected bits.\n")
        return EXIT_DONE
    sys.stderr.write(f"which_bits: {difference(versions)}\n")
    return EXIT_FAILED


def trained_sha256() -> str:
    """Trains, with its lines on standard error, and returns the sha256 of the weights."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        request = parse_request([*_RUN, "--output_dir", str(Path(folder, "model"))], default_recipe=str)
        return file_sha256(run(request, stop=StopSignal(deadline_seconds=None)) / "model.safetensors")


def versions_of(environment: dict[str, object]) -> dict[str, str]:
    """Returns the versions, without local parts such as +cpu, of the libraries that the expected bits are of."""
    installed = environment["versions"]
    assert isinstance(installed, dict)
    return {name: str(installed[name]).partition("+")[0] for name in EXPECTED_VERSIONS}


def difference(versions: dict[str, str]) -> str:
    """Returns what the other bits come from, as a sentence."""
    other = [f"{name} is {version}" for name, version in versions.items() if version != EXPECTED_VERSIONS[name]]
    if other:
        locked = ", ".join(f"{name} {version}" for name, version in EXPECTED_VERSIONS.items())
        return f"these are other bits, as may be, for {' and '.join(other)}: {EXPECTED_SHA256} is of {locked}"
    return (
        f"these are not the expected bits, {EXPECTED_SHA256}: this CPU shares no cache under `portable`; "
        "tools/bits_check says which operations differ"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
