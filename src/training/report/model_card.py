"""README.md of an artifact: a model card with the hub's YAML header."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from src.cli.formats import number_or_dash
from src.training.engine.early_stopping import find_early_stop
from src.training.evaluation.class_metrics import Metrics
from src.training.evaluation.mcnemar import Comparison
from src.training.evaluation.value_metrics import AnyMetrics
from src.training.evaluation.wilcoxon import ErrorComparison
from src.training.report.result import FinishedRun

_TASK = "text-classification"
_CARD = """\
---
{{ header }}
---

# {{ title }}

{{ what }}, fine-tuned on CPUs from {{ recipe.model_name_or_path }} on {{ data }}.

```python
from transformers import pipeline

print(pipeline("text-classification", model="PATH OF THIS FOLDER")({{ example }}))
```

| {{ after.split }}: {{ "{:,}".format(after.examples) }} rows | before | after |
|---|---|---|
{% for name, old, new in scores %}
| {{ name }} | {{ old }} | {{ new }} |
{% endfor %}

These rows took no part in training or in choosing the model. Row by row, {{ told_row_by_row }}.

Trained on {{ "{:,}".format(train_rows) }} rows for {{ epochs }} epochs in batches of \
{{ recipe.per_device_train_batch_size }}, peak learning rate {{ "%g" % recipe.learning_rate }}, \
seed {{ recipe.seed }}, reproducible: {{ recipe.reproducible }}.
`report.html` shows the run, `recipe.json` describes it completely, `metrics.json` has all numbers.
"""
_EXAMPLE = '"This movie was really good!"'
_EXAMPLE_PAIR = '{"text": "This movie was really good!", "text_pair": "I liked the film."}'
# What would begin markup or HTML in a name that comes from the data.
_MARKUP = str.maketrans({character: f"\\{character}" for character in "\\`*[]<>|&"})


def model_card(run: FinishedRun) -> str:
    """Returns the card's text. It holds nothing that varies from run to run of one recipe."""
    recipe = run.resolved["recipe"]
    return (
        jinja2.Environment(
            undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
        )
        .from_string(_CARD)
        .render(
            header=_header(run).to_yaml(),
            title=_plain(run.title),
            recipe={**recipe, "model_name_or_path": _plain(recipe["model_name_or_path"])},
            data=_plain(recipe["dataset_name"] or recipe["train_file"]),
            after=run.after.metrics,
            scores=zip(_names(run.after.metrics), _values(run.before.metrics), _values(run.after.metrics), strict=True),
            told_row_by_row=_row_by_row(run.comparison),
            train_rows=run.resolved["inputs"]["data"]["train"]["rows"],
            epochs=_epochs(run),
            what=_what(run),
            example=_EXAMPLE if run.test.text_pairs is None else _EXAMPLE_PAIR,
        )
    )


def _epochs(run: FinishedRun) -> str:
    planned, stop = run.resolved["recipe"]["num_train_epochs"], find_early_stop(run.events)
    return f"{planned:g}" if stop is None else f"{stop['epoch']} of at most {planned:g} (stopped early)"


def _what(run: FinishedRun) -> str:
    """Returns what kind of model it is, as a sentence begins."""
    of = "texts" if run.test.text_pairs is None else "pairs of texts"
    after = run.after.metrics
    if not isinstance(after, Metrics):
        return f"A model that gives {of} a number ({_plain(run.resolved['recipe']['label_column_name'])}; a regression)"
    shown = ", ".join(after.labels[:10]) + (" …" if len(after.labels) > 10 else "")
    return f"A classifier of {of} ({_plain(shown)})" if run.test.text_pairs else f"A text classifier ({_plain(shown)})"


def _row_by_row(comparison: Comparison) -> str:
    better, worse = f"{comparison.better:,}", f"{comparison.worse:,}"
    if isinstance(comparison, ErrorComparison):
        changes, test = f"{better} are nearer to their label and {worse} farther from it", "Wilcoxon's signed-rank test"
    else:
        changes, test = f"{better} are right that were wrong, and {worse} wrong that were right", "McNemar's exact test"
    return f"{changes}: {comparison.verdict} ({test}, p {comparison.p_in_words})"


def _names(metrics: AnyMetrics) -> list[str]:
    if isinstance(metrics, Metrics):
        return ["accuracy", "95 % interval", "F1, macro", "loss"]
    return ["mean absolute error", "95 % interval", "mean squared error", "Pearson", "Spearman", "R²"]


def _values(metrics: AnyMetrics) -> list[str]:
    """Returns the scores as the table tells them, in the order of `_names`."""
    if isinstance(metrics, Metrics):
        scores: list[float | None] = [metrics.accuracy, metrics.f1, metrics.loss]
        interval: tuple[float, float] | None = metrics.accuracy_ci95
    else:
        scores = [metrics.mae, metrics.mse, metrics.pearson, metrics.spearman, metrics.r2]
        interval = metrics.mae_ci95
    first, *others = map(number_or_dash, scores)
    return [first, "-" if interval is None else "{:.4f} to {:.4f}".format(*interval), *others]


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
        metrics=[metric for metric, _, _ in _hub_scores(run.after.metrics)],
        model_name=run.title,
        eval_results=_results(recipe, metrics=run.after.metrics),
    )


def _results(recipe: Mapping[str, Any], *, metrics: AnyMetrics) -> list[EvalResult]:
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
        for metric, told, value in _hub_scores(metrics)
    ]


def _hub_scores(metrics: AnyMetrics) -> list[tuple[str, str, float]]:
    """Returns (the hub's name of a score, its name for people, its value) of those that are defined."""
    scores: list[tuple[str, str, float | None]]
    if isinstance(metrics, Metrics):
        scores = [("accuracy", "Accuracy", metrics.accuracy), ("f1", "F1, macro", metrics.f1)]
    else:
        scores = [
            ("mae", "Mean absolute error", metrics.mae),
            ("mse", "Mean squared error", metrics.mse),
            ("pearsonr", "Pearson correlation", metrics.pearson),
            ("spearmanr", "Spearman correlation", metrics.spearman),
            ("r_squared", "R²", metrics.r2),
        ]
    return [(metric, told, value) for metric, told, value in scores if value is not None and math.isfinite(value)]
