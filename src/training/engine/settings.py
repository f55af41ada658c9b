"""The numbers that training runs on."""

from __future__ import annotations

from dataclasses import dataclass

# Between checkpoints: a killed run loses at most this much.
CHECKPOINT_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How the weights are trained; fields are named as in the recipe, which has their documentation and defaults."""

    per_device_train_batch_size: int
    per_device_eval_batch_size: int
    num_train_epochs: float
    learning_rate: float
    lr_scheduler_type: str
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    seed: int
    max_steps: int | None = None
    gradient_accumulation_steps: int = 1

    @property
    def rows_per_step(self) -> int:
        """Rows of a training step, in all processes and batches."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps
