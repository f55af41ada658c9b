"""README.md of an artifact: a model card with the hub's YAML header."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from src.training.early_stopping import told_early_stop
from src.training.finished_run import FinishedRun
from src.training.metrics import Metrics

_TASK = "text-classification"
_CARD = """\
---
{{ header }}
---

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

These rows took no part in training or in choosing the model. Row by row, {{ "{:,}".format(comparison.better) }} are \
right that were wrong, and {{ "{:,}".format(comparison.worse) }} wrong that were right: {{ comparison.verdict }} \
(McNemar's exact test, p {{ comparison.p_in_words }}).

Trained on {{ "{:,}".format(train_rows) }} rows for {{ epochs }} epochs in batches of \
{{ recipe.per_device_train_batch_size }}, peak learning rate {{ "%g" % recipe.learning_rate }}, \
seed {{ recipe.seed }}, reproducible: {{ recipe.reproducible }}.
`report.html` shows the run, `recipe.json` describes it completely, `metrics.json` has all numbers.
"""
# What would begin markup or HTML in a name that comes from the data.
_MARKUP = str.maketrans({character: f"\\{character}" for character in "\\`*[]<>|&"})


def model_card(run: FinishedRun) -> str:
    """Returns the card's text. It holds nothing that varies from run to run of one recipe."""
    recipe, after = run.resolved["recipe"], run.after.class_metrics
    shown = ", ".join(after.labels[:10]) + (" …" if len(after.labels) > 10 else "")
    return (
        jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
        .from_string(_CARD)
        .render(
            header=_header(run).to_yaml(),
            title=_plain(run.title),
            recipe={**recipe, "model_name_or_path": _plain(recipe["model_name_or_path"])},
            data=_plain(recipe["dataset_name"] or recipe["train_file"]),
            before=run.before.class_metrics,
            after=after,
            comparison=run.comparison,
            train_rows=run.resolved["inputs"]["data"]["train"]["rows"],
            epochs=_epochs(run),
            labels=_plain(shown),
            interval=lambda metrics: "{:.4f} to {:.4f}".format(*metrics.accuracy_ci95),
        )
    )


def _epochs(run: FinishedRun) -> str:
    planned, stop = run.resolved["recipe"]["num_train_epochs"], told_early_stop(run.events)
    return f"{planned:g}" if stop is None else f"{stop['epoch']} of at most {planned:g} (stopped early)"


def _plain(name: str) -> str:
    """Returns a name as Markdown that shows it, on one line."""
    return " ".join(name.split()).translate(_MARKUP)


def _header(run: FinishedRun) -> ModelCardData:
    """Returns the fields the hub reads. Names that are no hub repositories are left out: it would link to them."""
    recipe = run.resolved["recipe"]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=_TASK,
        tags=["cpu"],
        base_model=recipe["model_name_or_path"] if recipe["model_revision"] else None,
        datasets=[recipe["dataset_name"]] if recipe["dataset_revision"] else None,
        metrics=["accuracy", "f1"],
        model_name=run.title,
        eval_results=_results(recipe, metrics=run.after.class_metrics),
    )


def _results(recipe: Mapping[str, Any], *, metrics: Metrics) -> list[EvalResult]:
    """Returns the final numbers for the header's model-index."""
    hub_name = recipe["dataset_name"]
    if hub_name is not None and hub_name.startswith((".", "/", "~")):
        hub_name = None
    name = hub_name or PurePath(recipe["dataset_name"] or recipe["train_file"]).name
    return [
        EvalResult(
            task_type=_TASK,
            # No repository's name has a colon: a local file is not taken for a dataset of the hub.
            dataset_type=hub_name or f"file:{name}",
            dataset_name=name,
            dataset_config=recipe["dataset_config_name"],
            dataset_split=metrics.split,
            dataset_revision=recipe["dataset_revision"],
            metric_type=metric,
            metric_value=round(value, 6),
            metric_name=told,
        )
        for metric, told, value in (("accuracy", "Accuracy", metrics.accuracy), ("f1", "F1, macro", metrics.f1))
    ]
