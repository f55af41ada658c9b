"""Where a stopped run goes on: checkpoints that are whole or absent."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from src.training.artifact import flush_to_disk
from src.training.errors import RequestError
from src.training.optim import Optimizer

_PREFIX = "checkpoint-"
_PARTIAL = ".partial-"
_STATE = "state.json"

WeightSet = dict[str, torch.Tensor]

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run, in a folder beside its output folder."""

    def __init__(self, folder: Path, *, fingerprint: str) -> None:
        """Takes the folder that checkpoints go to and the fingerprint of the recipe they belong to."""
        self.folder = folder
        self._fingerprint = fingerprint

    def latest(self) -> Path | None:
        """Returns the last whole checkpoint, or None.

        Raises:
            RequestError: the folder holds checkpoints of another recipe.
        """
        found = sorted(self.folder.glob(f"{_PREFIX}*"), key=lambda path: int(path.name.removeprefix(_PREFIX)))
        if not found:
            return None
        if json.loads((found[-1] / _STATE).read_text())["fingerprint"] != self._fingerprint:
            raise RequestError(
                f"{self.folder} holds a checkpoint of another recipe: name another --output_dir, "
                "or drop it with --resume_from_checkpoint false"
            )
        return found[-1]

    def save(self, step: int, *, weights: dict[str, WeightSet], optimizer: Optimizer, state: dict[str, Any]) -> Path:
        """Writes a checkpoint and then removes the older ones.

        Args:
            step: steps done.
            weights: tensors by set and name: the model, and the best one so far if there is one.
            optimizer: its state is saved.
            state: anything else, as JSON.
        """
        final = self.folder / f"{_PREFIX}{step}"
        partial = self.folder / f"{_PARTIAL}{os.getpid()}"
        try:
            self._write(partial, weights=weights, optimizer=optimizer, state=state)
            if not final.exists():
                partial.rename(final)
        finally:
            # On a full disk what was written is in the way of everything.
            shutil.rmtree(partial, ignore_errors=True)
        for old in self.folder.glob(f"{_PREFIX}*"):
            if old != final:
                shutil.rmtree(old)
        return final

    def _write(
        self, folder: Path, *, weights: dict[str, WeightSet], optimizer: Optimizer, state: dict[str, Any]
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, tensors in weights.items():
            save_file({key: value.contiguous() for key, value in tensors.items()}, folder / f"{name}.safetensors")
        torch.save(optimizer.state_dict(), folder / "optimizer.pt")
        (folder / _STATE).write_text(json.dumps({**state, "fingerprint": self._fingerprint}))
        flush_to_disk(folder)

    def load(self, path: Path, *, optimizer: Optimizer) -> tuple[dict[str, WeightSet], dict[str, Any]]:
        """Reads a checkpoint back. Returns the weights by set, and the state; fills the optimizer."""
        weights = {file.stem: load_file(file) for file in path.glob("*.safetensors")}
        optimizer.load_state_dict(torch.load(path / "optimizer.pt", weights_only=True))
        return weights, json.loads((path / _STATE).read_text())

    def remove(self) -> None:
        """Removes the folder with all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)
