"""An output folder that is a mount point, as of `docker run -v`: a run stops, resumes and commits in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from src.training.testing.mounts import mount_namespace
from src.training.testing.user_folder import write_inputs

ARGUMENTS = (
    *("--model_name_or_path", "base", "--train_file", "train.csv", "--test_file", "test.csv"),
    *("--max_seq_length", "16", "--per_device_train_batch_size", "8", "--num_train_epochs", "2", "--threads", "1"),
)
# The container's own file system is read-only, and what is mounted in it is a folder of the host's, on the same disk.
_INSIDE = """
import hashlib, json, subprocess, sys
from pathlib import Path
from src.training import export_onnx
from src.training.train_model import main

root, host, answer = map(Path, sys.argv[1:4])
(root / "usual").mkdir()
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root], check=True)
(root / "out").mkdir()
(root / "usual").mkdir()
subprocess.run(["mount", "--bind", host, root / "out"], check=True)
code = main([*sys.argv[4:], "--output_dir", str(root / "usual")])
results = [(code, sorted(path.name for path in (root / "usual").iterdir()))]
for name in ("model.onnx", "mounted.onnx"):
    (root / name).touch()
subprocess.run(["mount", "--bind", root / "mounted.onnx", root / "model.onnx"], check=True)
export = ["--model", str(root / "usual"), "--check_file", "test.csv", "--output", str(root / "model.onnx")]
results.append((export_onnx.main(export), sorted(path.name for path in root.glob("*.onnx*"))))
subprocess.run(["mount", "-o", "remount,ro", "tmpfs", root], check=True)
for flags in (["--deadline_seconds", "0"], []):
    code = main([*sys.argv[4:], *flags, "--output_dir", str(root / "out")])
    results.append((code, sorted(path.name for path in (root / "out").iterdir())))
weights = [hashlib.sha256((root / name / "model.safetensors").read_bytes()).hexdigest() for name in ("usual", "out")]
answer.write_text(json.dumps([results, weights]))
"""


def test_a_mount_point_is_written_into(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, train=40, test=20)
    for name in ("root", "host"):
        (inputs / name).mkdir()
    namespace = mount_namespace(inputs / "root")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEST_")}
    done = subprocess.run(
        [*namespace, sys.executable, "-c", _INSIDE, inputs / "root", inputs / "host", inputs / "answer", *ARGUMENTS],
        env=environment | {"BUILD_WORKING_DIRECTORY": str(inputs), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (usual, exported, stopped, resumed), weights = json.loads((inputs / "answer").read_text())
    assert usual[0] == 0 and "model.safetensors" in usual[1]
    assert exported == [2, ["model.onnx", "mounted.onnx"]]
    assert "model.onnx is a mount point, which no file can replace: name another file" in done.stderr
    assert stopped == [3, [".training"]]
    assert resumed == usual
    assert weights[0] == weights[1]
    assert sorted(path.name for path in (inputs / "host").iterdir()) == usual[1]
