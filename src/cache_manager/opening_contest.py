"""Models of three sizes, opened in turns by the cache, by from_pretrained, and read raw."""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.cache_manager.loading import build_without_weights, load_model
from src.cache_manager.sharing.transfer import import_folder
from src.cache_manager.store.store import Store

_CHUNK = 16 << 20
_PAGE = 4096


@dataclass(frozen=True)
class Size:
    """A model to make, from a config and random weights.

    Attributes:
        name: in the result.
        config: class of the config, and its fields.
        model: class of the model.
        dtype: of its weights.
    """

    name: str
    config: tuple[str, dict[str, Any]]
    model: str
    dtype: str


# The tutorial's three: bert-tiny, distilbert-base, SmolLM-1.7B.
SIZES = (
    Size(
        "4.4M",
        (
            "BertConfig",
            {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512},
        ),
        "BertForSequenceClassification",
        "float32",
    ),
    Size("66M", ("DistilBertConfig", {}), "DistilBertForSequenceClassification", "float32"),
    Size(
        "1.7B",
        (
            "LlamaConfig",
            {
                "hidden_size": 2048,
                "num_hidden_layers": 24,
                "num_attention_heads": 32,
                "intermediate_size": 8192,
                "vocab_size": 49152,
                "max_position_embeddings": 2048,
                "tie_word_embeddings": True,
            },
        ),
        "LlamaForCausalLM",
        "bfloat16",
    ),
)


def make_entry(store: Store, size: Size, *, scratch: Path) -> Path:
    """Makes a model of random weights and imports it; returns the entry's folder."""
    import torch
    import transformers

    name, fields = size.config
    config = getattr(transformers, name)(**fields)
    config.architectures = [size.model]
    folder = scratch / size.name
    torch.manual_seed(0)
    with torch.device("meta"):
        model = getattr(transformers, size.model)(config).to(getattr(torch, size.dtype))
    # Filled without the distributions of an initialisation, which would take minutes for the largest.
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter.data, -0.02, 0.02)
    model.tie_weights()
    model.save_pretrained(folder)
    del model
    gc.collect()
    return import_folder(store, folder)


def contest(folder: Path, *, rounds: int, drop_caches: Callable[[], bool]) -> dict[str, Any]:
    """Opens a model in turns; returns median seconds, cold and warm.

    `raw` is the floor: reading the file's bytes once, plus building the modules without weights. `all_bytes` also
    touches every page of the opened weights, as a first use would.
    """
    contestants = {"ours": load_model, "ours_all_bytes": _open_and_touch, "from_pretrained": _usual, "raw": _raw}
    result: dict[str, Any] = {"bytes": (folder / "model.safetensors").stat().st_size}
    for opened in contestants.values():
        # Imports, and what is built once in a process, are no part of a model.
        opened(folder)
    for state in ("warm", "cold"):
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, opened in contestants.items():
                if state == "cold" and not drop_caches():
                    return {**result, "cold": None}
                times[name].append(_timed(opened, folder))
        result[state] = _summary(times)
    return result


def _summary(times: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Returns medians. Processor time is told as well: on a busy machine it says more than the clock."""
    wall = {name: statistics.median(each[0] for each in all_) for name, all_ in times.items()}
    cpu = {name: statistics.median(each[1] for each in all_) for name, all_ in times.items()}
    return {
        "seconds": {name: round(seconds, 4) for name, seconds in wall.items()},
        "cpu_seconds": {name: round(seconds, 4) for name, seconds in cpu.items()},
        "from_pretrained_times_ours": round(wall["from_pretrained"] / wall["ours"], 2),
        "ours_times_raw": round(wall["ours"] / wall["raw"], 2),
    }


def _timed(opened: Callable[[Path], Any], folder: Path) -> tuple[float, float]:
    """Returns seconds by the clock and of the processor."""
    gc.collect()
    started, worked = time.perf_counter(), time.process_time()
    model = opened(folder)
    seconds = time.perf_counter() - started, time.process_time() - worked
    del model
    return seconds


def _usual(folder: Path) -> Any:
    import transformers

    (name,) = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"]
    return getattr(transformers, name).from_pretrained(folder)


def _open_and_touch(folder: Path) -> Any:
    model: Any = load_model(folder, preload=True)
    for parameter in model.parameters():
        flat = parameter.data.view(-1)
        flat[:: max(1, _PAGE // flat.element_size())].sum()
    return model


def _raw(folder: Path) -> Any:
    """Reads the file into one buffer and builds the modules: what no loader can do without."""
    import transformers

    buffer = bytearray(_CHUNK)
    with (folder / "model.safetensors").open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    config = transformers.AutoConfig.from_pretrained(folder)
    return build_without_weights(getattr(transformers, config.architectures[0]), config)


def drop_page_cache() -> bool:
    """Makes the kernel forget every file; returns whether it could, which takes root on Linux."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
    except OSError:
        return False
    return True
