"""The run of a classifier or a regression; see kinds.Kind."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.training.data.batches import encode
from src.training.engine.data_parallel import TEST, TRAIN, VALIDATION, DataParallel
from src.training.engine.memory_check import check_training_fits
from src.training.evaluation.comparison import Comparison
from src.training.evaluation.problem import Scored
from src.training.model.adapter_base import load_adapted_classifier
from src.training.model.base_model import build_model
from src.training.model.inputs import reads_token_types
from src.training.model.lora import Lora, check_moved, has_adapter_alone, save_weights
from src.training.model.pretrained import load_model
from src.training.run.resolved_run import ResolvedRun
from src.training.run.verification import predict_sample, verify_saved


class ClassifierKind:
    """A model with a head."""

    def __init__(self, resolved: ResolvedRun) -> None:
        self._resolved, self._recipe = resolved, resolved.recipe
        self._task, self._problem = resolved.task, resolved.problem

    def build(self) -> tuple[Any, Any]:
        """See Kind.build."""
        return build_model(
            self._resolved.base,
            output_names=self._problem.output_names,
            seed=self._recipe.seed,
            max_seq_length=self._recipe.max_seq_length,
            problem_type=self._problem.config_problem_type,
            lora=Lora.of(self._recipe),
        )

    def data_parallel(self, model: Any, tokenizer: Any, *, is_stopping: Callable[[], bool]) -> DataParallel:
        """See Kind.data_parallel."""
        token_types = reads_token_types(model, tokenizer)
        splits = {
            name: encode(rows, tokenizer=tokenizer, max_seq_length=self._recipe.max_seq_length, token_types=token_types)
            for name, rows in ((TRAIN, self._task.train), (VALIDATION, self._task.validation), (TEST, self._task.test))
        }
        check_training_fits(
            model,
            train_batch_size=self._recipe.per_device_train_batch_size,
            eval_batch_size=self._recipe.per_device_eval_batch_size,
            train=splits[TRAIN],
            scored={name: splits[name] for name in (VALIDATION, TEST)},
            threads=self._resolved.threads,
            keeps_best=self._resolved.keeps_best,
        )
        return DataParallel(
            model,
            self._resolved.training_settings,
            splits=splits,
            problem=self._problem,
            threads=self._resolved.threads,
            is_stopping=is_stopping,
        )

    def measure(self, data_parallel: DataParallel, *, check: Callable[[], None]) -> Scored:
        """See Kind.measure."""
        return data_parallel.score(TEST, name=self._task.test.split, check=check)

    def compare(self, *, before: Scored, after: Scored) -> Comparison:
        """See Kind.compare."""
        true = np.array(self._task.test.labels)
        return self._problem.compare(before=before.predicted, after=after.predicted, true=true)

    def sample(self, model: Any, tokenizer: Any) -> torch.Tensor:
        """See Kind.sample."""
        return predict_sample(model, tokenizer, problem=self._problem, pair=self._reads_pairs)

    def save(self, model: Any, tokenizer: Any, folder: Path) -> None:
        """See Kind.save."""
        check_moved(model)
        self._save(model, tokenizer, folder)

    def _save(self, model: Any, tokenizer: Any, folder: Path) -> None:
        save_weights(model, folder, merged=self._recipe.save_merged)
        tokenizer.save_pretrained(folder)

    def write_untrained(self, folder: Path) -> None:
        """See Kind.write_untrained."""
        self._save(*self.build(), folder)

    def verify(self, folder: Path, sample: torch.Tensor) -> None:
        """See Kind.verify: merged weights, and base and adapter, each against the model in memory."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        loaders: list[Callable[[Path], Any]] = [] if has_adapter_alone(folder) else [load_model]
        if self._recipe.use_peft:
            loaders.append(partial(load_adapted_classifier, self._resolved.base))
        for load in loaders:
            verify_saved(folder, sample, load=load, problem=self._problem, pair=self._reads_pairs, device=device)

    @property
    def _reads_pairs(self) -> bool:
        return self._task.test.text_pairs is not None
