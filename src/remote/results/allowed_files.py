"""What an executor may return: the files of a model and of a checkpoint, by exact name. Anything else is refused.

A name that means something to a program on this machine (BUILD, conftest.py, .bashrc, a pickle) must not arrive,
whatever it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from src.cli.errors import RequestError
from src.training.model.model_files import ADAPTER_WEIGHTS, MAX_TEXT_BYTES, RECORDS, TEXTS, WEIGHTS

# What run_training.sh and training write.
_STEP = r"model\.checkpoint/checkpoint-[0-9]{1,15}"
_FOLDERS = rf"(model|model/adapter|model\.checkpoint|{_STEP})/"
_TEXTS = rf"training_code\.sha256|model\.checkpoint/({RECORDS})|{_STEP}/state\.json|model/({TEXTS})"
_WEIGHTS = rf"model/({WEIGHTS}|{ADAPTER_WEIGHTS})|{_STEP}/(model|best|optimizer)\.safetensors"
# What is parsed takes twenty times as much memory: a confusion matrix of 1000 classes takes 11 MB.
_MAX_RECORD_BYTES = 64 << 20
_PARSED = ("recipe.json", "metrics.json", "state.json")
# --save_total_limit is 1 by default.
_MAX_CHECKPOINTS = 10
# How many times the bytes of the base weights: twice for float32 weights of a float16 base, as much again for those of
# the best epoch, and twice that for AdamW's two numbers a weight. The new head comes on top.
_MAX_WEIGHTS_RATIO, _MAX_HEAD_BYTES = 8, 64 << 20


def check_allowed(name: str, *, size: int) -> None:
    """Refuses a file or folder that no training of this repository leaves. How large weights may be is not known yet.

    Args:
        name: relative to the outputs; a folder's ends with a slash.
        size: in bytes.

    Raises:
        RequestError: it is refused.
    """
    if re.fullmatch(_FOLDERS, name) or re.fullmatch(_WEIGHTS, name):
        return
    if not re.fullmatch(_TEXTS, name):
        raise RequestError(
            f"the outputs hold {name[:100]!a}, which is no file of a model or a checkpoint: nothing is collected"
        )
    limit = _MAX_RECORD_BYTES if name.rpartition("/")[2] in _PARSED else MAX_TEXT_BYTES
    if size > limit:
        raise RequestError(
            f"{name} in the outputs has {size:,} bytes, more than {limit >> 20} MiB: nothing is collected"
        )


def check_checkpoints(names: Iterable[str]) -> None:
    """Refuses more checkpoints than a run keeps.

    Raises:
        RequestError: there are more.
    """
    steps = {found[0] for name in names if (found := re.match(_STEP, name))}
    if len(steps) > _MAX_CHECKPOINTS:
        raise RequestError(
            f"the outputs hold {len(steps):,} checkpoints, more than {_MAX_CHECKPOINTS}: nothing is collected; train "
            "with a smaller --save_total_limit"
        )


def check_weights(folder: Path, *, base: Path) -> None:
    """Refuses weights that are larger than fine-tuning the base model can make them.

    Args:
        folder: a model, or a folder of checkpoints.
        base: folder of the base model.

    Raises:
        RequestError: they are larger.
    """
    limit = _MAX_WEIGHTS_RATIO * _weights_bytes(base) + _MAX_HEAD_BYTES
    for each in (folder, folder / "adapter", *sorted(folder.glob("checkpoint-*"))):
        if (size := _weights_bytes(each)) > limit:
            raise RequestError(
                f"the weights in {each.name} have {size:,} bytes, of this base model at most {limit:,}: "
                "nothing is collected"
            )


def _weights_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for pattern in ("*.safetensors", "*.bin") for path in folder.glob(pattern))
