"""What all artifacts of a recipe have in common, however the runs were interrupted: for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from src.disk.durable import file_sha256

_SAME_BITS = ("model.safetensors", "config.json", "recipe.json", "tokenizer.json", "tokenizer_config.json")
# And of a language model, those that it has.
_OF_LANGUAGE_MODELS = (
    *("chat_template.jinja", "generation_config.json"),
    *("adapter/adapter_config.json", "adapter/adapter_model.safetensors"),
)
_RECORDS = ("metrics.json", "README.md", "report.html", "events.jsonl")
# What an event holds that no other run repeats.
_TIMES = ("seconds", "examples_per_second")


def artifact_content(folder: Path) -> dict[str, Any]:
    """Returns hashes of the files with the same bits, the scores, and the history without its times.

    Raises:
        AssertionError: a file is missing or too many, or the run is not complete.
    """
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if names - {*_OF_LANGUAGE_MODELS} != {*_SAME_BITS, *_RECORDS}:
        raise AssertionError(f"{folder} holds {sorted(names)}")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    if metrics["status"] != "complete":
        raise AssertionError(f"{folder} is of a run that is {metrics['status']}")
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "fingerprint": json.loads((folder / "recipe.json").read_text(encoding="utf-8"))["fingerprint"],
        "sha256": {name: file_sha256(folder / name) for name in sorted(names - {*_RECORDS})},
        "after": metrics["after"],
        "effort": {name: metrics["train"][name] for name in ("steps", "examples", "epochs")},
        "events": [{key: value for key, value in event.items() if key not in _TIMES} for event in events],
    }
