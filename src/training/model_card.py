"""README.md of an artifact: a model card with the hub's YAML header."""

from __future__ import annotations

from typing import Any

import jinja2
import yaml

from src.training.metrics import Metrics

_CARD = """\
---
{{ header }}---

# {{ title }}

A text classifier ({{ labels }}), fine-tuned on CPUs from {{ recipe.model_name_or_path }} on {{ data }}.

```python
from transformers import pipeline

print(pipeline("text-classification", model="PATH OF THIS FOLDER")("This movie was really good!"))
```

| {{ after.split }}: {{ "{:,}".format(after.examples) }} rows | before | after |
|---|---|---|
| accuracy | {{ "%.4f" % before.accuracy }} | {{ "%.4f" % after.accuracy }} |
| 95 % interval | {{ interval(before) }} | {{ interval(after) }} |
| F1, macro | {{ "%.4f" % before.f1 }} | {{ "%.4f" % after.f1 }} |
| loss | {{ "%.4f" % before.loss }} | {{ "%.4f" % after.loss }} |

These rows took no part in training or in choosing the model.

Trained on {{ "{:,}".format(train_rows) }} rows for {{ "%g" % recipe.num_train_epochs }} epochs in batches of \
{{ recipe.per_device_train_batch_size }}, peak learning rate {{ "%g" % recipe.learning_rate }}, \
seed {{ recipe.seed }}, reproducible: {{ recipe.reproducible }}.
`recipe.json` describes the run completely; `metrics.json` has all numbers.
"""


def model_card(resolved: dict[str, Any], *, title: str, before: Metrics, after: Metrics, train_rows: int) -> str:
    """Returns the card's text. It holds nothing that varies from run to run of one recipe."""
    recipe = resolved["recipe"]
    data = recipe["dataset_name"] or recipe["train_file"]
    return (
        jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
        .from_string(_CARD)
        .render(
            header=yaml.safe_dump(_header(recipe), sort_keys=False, allow_unicode=True),
            title=title,
            recipe=recipe,
            data=data,
            before=before,
            after=after,
            train_rows=train_rows,
            labels=", ".join(after.labels[:10]) + (" …" if len(after.labels) > 10 else ""),
            interval=lambda metrics: "{:.4f} to {:.4f}".format(*metrics.accuracy_ci95),
        )
    )


def _header(recipe: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields the hub reads. Names that are no hub repositories are left out: it would link to them."""
    header: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-classification", "tags": ["cpu"]}
    if recipe["model_revision"]:
        header["base_model"] = recipe["model_name_or_path"]
    if recipe["dataset_revision"]:
        header["datasets"] = [recipe["dataset_name"]]
    return {**header, "metrics": ["accuracy", "f1"]}
