"""README.md of an artifact: a model card with the hub's YAML header."""

from __future__ import annotations

import math
from pathlib import PurePath

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from src.training.engine.early_stopping import find_early_stop
from src.training.evaluation.result import FinishedRun

_CARD = """\
---
{{ header }}
---

# {{ title }}

{{ what }}, fine-tuned on CPUs from {{ recipe.model_name_or_path }} on {{ data }}.

```python
from transformers import pipeline

print(pipeline("{{ task }}", {{ files }})({{ example }}))
```

| {{ after.split }}: {{ "{:,}".format(after.examples) }} rows | before | after |
|---|---|---|
{% for before, after in scores %}
| {{ before.name }} | {{ before.text }} | {{ after.text }} |
{% endfor %}

These rows took no part in training or in choosing the model. Row by row: {{ comparison }}.

Trained{{ adapters }} on {{ "{:,}".format(train_rows) }} rows for {{ epochs }} in batches of \
{{ recipe.per_device_train_batch_size }}, peak learning rate {{ "%g" % recipe.learning_rate }}, \
seed {{ recipe.seed }}, reproducible: {{ recipe.reproducible }}{{ ", products in bfloat16" if recipe.bf16 }}.
`recipe.json` describes the run completely, `metrics.json` has all numbers.
`report.html` shows it.
"""
_WHOLE = 'model="PATH OF THIS FOLDER"'
# Without weights of its own, beside the base model's.
_ADAPTER = 'model="PATH OF THIS FOLDER/adapter", tokenizer="PATH OF THIS FOLDER"'
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
            scores=zip(run.before.metrics.card_scores(), run.after.metrics.card_scores(), strict=True),
            comparison=run.comparison.summary,
            train_rows=run.resolved["inputs"]["data"]["train"]["rows"],
            epochs=_epochs(run),
            adapters=f" low-rank adapters (LoRA, rank {recipe['lora_r']})" if recipe["use_peft"] else "",
            files=_WHOLE if recipe["save_merged"] or not recipe["use_peft"] else _ADAPTER,
            what=_plain(run.problem.describe_model(pairs=run.test.text_pairs is not None)),
            task=run.problem.pipeline_tag,
            example=run.problem.example(pairs=run.test.text_pairs is not None),
        )
    )


def _epochs(run: FinishedRun) -> str:
    recipe, stop = run.resolved["recipe"], find_early_stop(run.events)
    if stop is None and recipe["max_steps"] is not None:
        return f"{recipe['max_steps']:,} steps"
    epochs = recipe["num_train_epochs"]
    planned = f"{epochs:g} epoch{'' if epochs == 1 else 's'}"
    return planned if stop is None else f"{stop['epoch']} of at most {planned} (stopped early)"


def _plain(name: str) -> str:
    """Returns a name as Markdown that shows it, on one line."""
    return " ".join(name.split()).translate(_MARKUP)


def _header(run: FinishedRun) -> ModelCardData:
    """Returns the fields the hub reads. Names that are no hub repositories are left out: it would link to them."""
    recipe = run.resolved["recipe"]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=run.problem.pipeline_tag,
        tags=["cpu"],
        base_model=recipe["model_name_or_path"] if recipe["model_revision"] else None,
        datasets=[recipe["dataset_name"]] if recipe["dataset_revision"] else None,
        metrics=[metric for metric, _, _ in _hub_scores(run)],
        model_name=run.title,
        eval_results=_results(run),
    )


def _hub_scores(run: FinishedRun) -> list[tuple[str, str, float]]:
    """Returns (the hub's metric, its name for people, its value) of the scores that are numbers."""
    return [
        (score.hub_metric, score.name[:1].upper() + score.name[1:], score.value)
        for score in run.after.metrics.card_scores()
        if score.hub_metric is not None and score.value is not None and math.isfinite(score.value)
    ]


def _results(run: FinishedRun) -> list[EvalResult]:
    """Returns the final numbers for the header's model-index."""
    recipe = run.resolved["recipe"]
    hub_name = recipe["dataset_name"]
    if hub_name is not None and hub_name.startswith((".", "/", "~")):
        hub_name = None
    dataset_name = hub_name or PurePath(recipe["dataset_name"] or recipe["train_file"]).name
    return [
        EvalResult(
            task_type=run.problem.pipeline_tag,
            # No repository's name has a colon: a local file is not taken for a dataset of the hub.
            dataset_type=hub_name or f"file:{dataset_name}",
            dataset_name=dataset_name,
            dataset_config=recipe["dataset_config_name"],
            dataset_split=run.after.metrics.split,
            dataset_revision=recipe["dataset_revision"],
            metric_type=metric,
            metric_value=round(value, 6),
            metric_name=name,
        )
        for metric, name, value in _hub_scores(run)
    ]
