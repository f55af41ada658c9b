"""The tutorial's recipe from a hub on loopback, and from the cache that this fills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from src.disk.durable import file_sha256
from src.training.recipes.files import read_recipe
from src.training.testing.loopback_hub import LoopbackHub, serving
from src.training.testing.tiny_model import POSITIONS, build_tiny_model

RECIPE = read_recipe("sst2_bert_tiny", folder=Path())
_FEATURES = {
    "sentence": {"dtype": "string", "_type": "Value"},
    "label": {"names": ["negative", "positive"], "_type": "ClassLabel"},
}
_CARD = "---\nconfigs:\n- config_name: sst2\n  data_files:\n" + "".join(
    f"  - split: {split}\n    path: sst2/{split}-*\n" for split in ("train", "validation", "test")
)


def write_split(folder: Path, split: str, *, rows: int, labelled: bool = True) -> None:
    """Writes rows as GLUE does; it keeps the labels of its test rows to itself."""
    table = pa.table(
        {
            "sentence": [f"the film {at} was {'good' if at % 2 else 'bad'}" for at in range(rows)],
            "label": [at % 2 if labelled else -1 for at in range(rows)],
        }
    )
    features = json.dumps({"info": {"features": _FEATURES}})
    path = folder / "sst2" / f"{split}-00000-of-00001.parquet"
    pq.write_table(table.replace_schema_metadata({"huggingface": features}), path)


@pytest.fixture
def hub(tmp_path: Path) -> LoopbackHub:
    build_tiny_model(tmp_path / "model", pickled=True)
    data = tmp_path / "data"
    (data / "sst2").mkdir(parents=True)
    (data / "README.md").write_text(_CARD + "---\n")
    write_split(data, "train", rows=200)
    write_split(data, "validation", rows=40)
    write_split(data, "test", rows=40, labelled=False)
    return LoopbackHub(
        {
            f"models/{RECIPE['model_name_or_path']}": (RECIPE["model_revision"], tmp_path / "model"),
            f"datasets/{RECIPE['dataset_name']}": (RECIPE["dataset_revision"], data),
        }
    )


def train(tmp_path: Path, endpoint: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Runs the program with the test's own hub cache, and nothing named but what a tiny model needs."""
    weights = file_sha256(tmp_path / "model" / "pytorch_model.bin")
    inherited = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    return subprocess.run(
        [sys.executable, "-m", "src.training.train_model", "--model_weights_sha256", weights, "--threads", "1",
         "--max_seq_length", str(POSITIONS), "--num_train_epochs", "1", *flags],
        env={**inherited, "PYTHONPATH": os.pathsep.join(sys.path), "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1",
             "HF_HOME": str(tmp_path / "hub-cache"), "BUILD_WORKING_DIRECTORY": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


def test_the_default_is_the_tutorials_job_while_the_hub_answers_and_from_its_cache_after(
    tmp_path: Path, hub: LoopbackHub
) -> None:
    with serving(hub) as endpoint:
        online = train(tmp_path, endpoint, "--output_dir", "online")
    assert online.returncode == 0, online.stderr
    assert "Recipe sst2_bert_tiny" in online.stdout and not online.stderr
    pinned = [RECIPE["model_revision"], RECIPE["dataset_revision"]]
    resolved = [path for path in hub.requests if "/resolve/" in path]
    assert resolved and all(any(commit in path for commit in pinned) for path in resolved), "a branch may move"

    offline = train(tmp_path, endpoint, "--output_dir", "offline", "--recipe", "sst2_bert_tiny")
    assert offline.returncode == 0, offline.stderr
    assert "Recipe sst2_bert_tiny" in offline.stdout
    for name in ("model.safetensors", "recipe.json"):
        assert (tmp_path / "offline" / name).read_bytes() == (tmp_path / "online" / name).read_bytes()
    inputs = json.loads((tmp_path / "online" / "recipe.json").read_text())["inputs"]
    assert inputs["model"]["commit"] == RECIPE["model_revision"]
    assert inputs["data"]["test"] == {**inputs["data"]["test"], "split": "validation", "rows": 40}


def test_what_is_named_has_no_fallback_without_hub_and_cache(tmp_path: Path, hub: LoopbackHub) -> None:
    with serving(hub) as endpoint:
        pass
    refused = train(tmp_path, endpoint, "--recipe", "sst2_bert_tiny", "--output_dir", "out")
    assert refused.returncode == 2
    assert refused.stderr.startswith("train_model: cannot load dataset nyu-mll/glue")
    assert "embedded:movie_reviews" in refused.stderr and refused.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_the_pinned_ones_are_refused(tmp_path: Path, hub: LoopbackHub) -> None:
    with serving(hub) as endpoint:
        refused = train(tmp_path, endpoint, "--model_weights_sha256", "0" * 64)
    assert refused.returncode == 2 and "pytorch_model.bin has sha256" in refused.stderr
