"""What a stopped run resumes from: checkpoints that are complete or absent; damaged ones are detected."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from src.cli.errors import RequestError
from src.disk.durable import delete, flush, flush_folder
from src.disk.json_files import read_json
from src.training.engine.checkpoint_seal import STATE_FILE, DamagedError, read_seal, write_seal
from src.training.optimizer.optimizer import Optimizer

_NAME = re.compile(r"checkpoint-(\d+)")
_PARTIAL = ".partial-"
_OPTIMIZER = "optimizer"

WeightSet = dict[str, torch.Tensor]

log = logging.getLogger("finetune")


class Checkpoints:
    """The checkpoints of one run, in a folder beside its output folder."""

    def __init__(self, folder: Path, *, fingerprint: str, keep: int = 1) -> None:
        """Reads nothing yet.

        Args:
            folder: created when the first one is saved.
            fingerprint: of the recipe they belong to.
            keep: how many of the newest stay.
        """
        self.folder = folder
        self._fingerprint, self._keep = fingerprint, keep

    def latest(self) -> Path | None:
        """Returns the last complete checkpoint, or None where there is none; warns of damaged ones.

        Raises:
            RequestError: they are of another recipe or another version of the trainer, or all of them are damaged.
        """
        damaged: list[str] = []
        for path in reversed(self._all()):
            try:
                state = read_seal(path)
            except DamagedError as error:
                damaged.append(str(error))
                continue
            self._check_recipe(state)
            for damage in damaged:
                log.warning("%s: resuming from %s, the checkpoint before it", damage, path.name)
            return path
        if damaged:
            raise RequestError(f"{damaged[0]}, and no other is left: start over with --resume_from_checkpoint false")
        return None

    def _all(self) -> list[Path]:
        """Returns what is named as a checkpoint, by step."""
        paths = [path for path in self.folder.glob("*") if _NAME.fullmatch(path.name)]
        return sorted(paths, key=_step)

    def _check_recipe(self, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self._fingerprint:
            raise RequestError(
                f"{self.folder} holds a checkpoint of another recipe: name another --output_dir, "
                "or drop it with --resume_from_checkpoint false"
            )

    def save(self, step: int, *, weights: dict[str, WeightSet], optimizer: Optimizer, state: dict[str, Any]) -> Path:
        """Writes a checkpoint and then removes those that are not to stay.

        Args:
            step: steps done.
            weights: tensors by set and name: the model, and the best one so far, if any.
            optimizer: its state is saved.
            state: anything else, as JSON.
        """
        final = self.folder / f"checkpoint-{step}"
        partial = self.folder / f"{_PARTIAL}{os.getpid()}"
        try:
            self._write(partial, weights=weights, optimizer=optimizer, state=state)
            if not self._is_whole(final):
                self._discard(final)
                partial.rename(final)
                flush(self.folder)
        finally:
            # On a full disk it would take the space of everything else.
            shutil.rmtree(partial, ignore_errors=True)
        self._remove_old(step)
        return final

    def _is_whole(self, path: Path) -> bool:
        """Whether this run saved the checkpoint before it went back to an earlier one."""
        try:
            return bool(read_seal(path)["fingerprint"] == self._fingerprint)
        except (DamagedError, RequestError):
            return False

    def _remove_old(self, step: int) -> None:
        """Removes all but the newest. A later step's is a damaged one that the run has gone back from."""
        earlier = [path for path in self._all() if _step(path) < step]
        later = [path for path in self._all() if _step(path) > step]
        for path in [*earlier[: len(earlier) - (self._keep - 1)], *later]:
            self._discard(path)

    def _discard(self, path: Path) -> None:
        """Removes a checkpoint, if it exists. A kill in the middle must not leave half of it under its name."""
        if path.exists():
            delete(path.rename(self.folder / f"{_PARTIAL}{os.getpid()}-{path.name}"))

    def _write(
        self, folder: Path, *, weights: dict[str, WeightSet], optimizer: Optimizer, state: dict[str, Any]
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # Not torch.save, whose error on a full disk is: unexpected pos 1024 vs 918.
        for name, tensors in {**weights, _OPTIMIZER: _flat(optimizer.state_dict())}.items():
            save_file({key: value.contiguous() for key, value in tensors.items()}, folder / f"{name}.safetensors")
        write_seal(folder, {**state, "fingerprint": self._fingerprint})
        flush_folder(folder)

    def load(self, path: Path) -> tuple[dict[str, WeightSet], dict[str, Any], dict[str, Any]]:
        """Reads a checkpoint back. Returns the weights by set, the optimizer's state, and the rest of the state."""
        state = read_json(path / STATE_FILE)
        # What is not listed there nobody has checked.
        weights = {name.removesuffix(".safetensors"): load_file(path / name) for name in state["files"]}
        optimizer = _nested(weights.pop(_OPTIMIZER))
        return weights, optimizer, state

    def drop_partial(self) -> None:
        """Removes what killed runs were writing. No other run may be using the folder."""
        for path in self.folder.glob(f"{_PARTIAL}*"):
            delete(path)

    def remove(self) -> None:
        """Removes the folder with all checkpoints."""
        for path in self._all():
            self._discard(path)
        shutil.rmtree(self.folder, ignore_errors=True)


def _flat(state: Mapping[str, Any]) -> WeightSet:
    """Returns tensors by the path of names that leads to them: {"embedding": {"mean": t}} -> {"embedding.mean": t}."""
    flat: WeightSet = {}
    for name, value in state.items():
        flat |= (
            {f"{name}.{key}": one for key, one in _flat(value).items()} if isinstance(value, dict) else {name: value}
        )
    return flat


def _nested(flat: WeightSet) -> dict[str, Any]:
    """Returns what `_flat` was given, but for what was empty."""
    state: dict[str, Any] = {}
    for path, value in flat.items():
        *outer, name = path.split(".")
        inner = state
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[name] = value
    return state


def _step(path: Path) -> int:
    return int(path.name.removeprefix("checkpoint-"))
