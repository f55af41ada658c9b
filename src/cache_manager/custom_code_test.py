"""Python in a model's folder is refused by whatever loads models, whoever answers "y"."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.training.testing.tiny_model import build_tiny_model, write_sentences

_CACHE = """
import sys
from pathlib import Path
from src.cache_manager.loading import load_model, load_tokenizer
from src.cli.errors import exit_code_of
sys.exit(exit_code_of("cache", lambda: bool((load_tokenizer(Path("model")), load_model(Path("model")))), debug=False))
"""
_PROGRAMS = {
    "train_model": (
        *("-m", "src.training.train_model", "--model_name_or_path", "./model", "--train_file", "train.csv"),
        *("--threads", "1", "--max_seq_length", "16", "--output_dir", "out"),
    ),
    "predict": ("-m", "src.training.predict", "--model", "model", "--threads", "1"),
    "cache": ("-c", _CACHE),
}


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("program", _PROGRAMS)
def test_code_of_a_model_is_refused_without_a_question(tmp_path: Path, program: str, file: str) -> None:
    folder = build_tiny_model(tmp_path / "model", head=2)
    write_sentences(tmp_path / "train.csv", rows=40, seed=1)
    code = {"AutoConfig": "home.C", "AutoModelForSequenceClassification": "home.M", "AutoTokenizer": ["home.T", None]}
    # Of types that transformers has it takes its own class, without a question.
    unknown = {"config.json": {"model_type": "homemade"}, "tokenizer_config.json": {"tokenizer_class": "Homemade"}}
    for name, change in unknown.items():
        content = {**json.loads((folder / name).read_text()), **change}
        (folder / name).write_text(json.dumps(content | ({"auto_map": code} if name == file else {})))
    (folder / "home.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    done = subprocess.run(
        [sys.executable, *_PROGRAMS[program]],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("TEST_")},
            "BUILD_WORKING_DIRECTORY": str(tmp_path),
            "HF_HOME": str(tmp_path / "hub"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        cwd=tmp_path,
        # More than predict reads as texts before it loads the model.
        input=b"y\n" * 50_000,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert not (tmp_path / "ran").exists(), "the model's code was run"
    assert (done.returncode, done.stdout) == (2, b""), done.stderr
    [sentence] = done.stderr.decode().splitlines()
    assert sentence.startswith(f"{program}: ")
    assert f"model needs Python code of its own ({file} has auto_map), which is never run" in sentence
