"""Flags of transformers' run_classification.py that no recipe has: what they say anyway, or what stands for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# The same under another name; a value of true is what the second says.
_RENAMED = {
    "text_column_names": ("text_column_name", None),
    "do_regression": ("problem_type", "regression"),
    "shuffle_seed": ("seed", None),
    "max_train_steps": ("max_steps", None),
    "per_gpu_train_batch_size": ("per_device_train_batch_size", None),
    "per_gpu_eval_batch_size": ("per_device_eval_batch_size", None),
}
# Values that ask for what happens anyway; any value where there is none.
_ANYWAY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("do_train", "do_eval", "do_predict"), ("true",)),
    **dict.fromkeys(("shuffle_train_dataset", "group_by_length", "use_fast_tokenizer", "save_safetensors"), ("true",)),
    **dict.fromkeys(("no_cuda", "use_cpu", "ignore_mismatched_sizes"), ("true",)),
    **dict.fromkeys(("fp16", "tf32", "trust_remote_code", "do_regression"), ("false",)),
    **dict.fromkeys(("pad_to_max_length", "gradient_checkpointing", "torch_compile", "disable_tqdm"), ("false",)),
    **dict.fromkeys(("eval_strategy", "evaluation_strategy"), ("epoch",)),
    "report_to": ("none",),
    "hub_strategy": ("end",),
    "optim": ("adamw_torch",),
    "overwrite_cache": (),
}
_SCORED = "rows are scored after each epoch: leave it out"
_LOGGED = "the loss is in events.jsonl, two hundred times a run: leave it out"
_CHECKPOINTS = "checkpoints are saved by time: use --checkpoint_seconds"
_FLOAT32 = "CPUs train in float32 here, or a language model with --bf16 in bfloat16: leave it out"
_BEST = (
    "the best epoch is that of the highest accuracy (in a regression, the lowest loss; of many labels, the highest "
    "F1): leave it out"
)
_SPLITS = "splits are found by their names (train, validation, test): leave it out, or give files"
_INSTEAD = {
    "do_train": "every run trains: to score texts with a trained model, use predict",
    "do_eval": "every run scores the model before and after training: leave it out",
    "do_predict": "every run scores the test rows: for texts without labels, use predict on the model",
    "metric_for_best_model": _BEST,
    "greater_is_better": _BEST,
    "metric_name": "all scores of a kind are reported, accuracy, F1 or the errors of a regression: leave it out",
    "report_to": "losses and scores are in events.jsonl and drawn in report.html: leave it out, or say none",
    **dict.fromkeys(("logging_steps", "logging_strategy", "logging_first_step"), _LOGGED),
    "logging_dir": "events.jsonl is in --output_dir: leave it out",
    "run_name": "the run is named by --output_dir: leave it out",
    "hub_token": "set the environment variable HF_TOKEN: a command line is seen by all",
    "hub_strategy": "the model is uploaded once, when it is complete: leave it out",
    **dict.fromkeys(("eval_steps", "eval_strategy", "evaluation_strategy", "eval_delay"), _SCORED),
    **dict.fromkeys(("save_steps", "save_strategy"), _CHECKPOINTS),
    **dict.fromkeys(("fp16", "tf32", "fp16_opt_level"), _FLOAT32),
    "warmup_steps": "use --warmup_ratio, the fraction of the steps",
    "task_name": "use --dataset_name nyu-mll/glue with --dataset_config_name, such as sst2",
    **dict.fromkeys(("train_split_name", "validation_split_name", "test_split_name", "remove_splits"), _SPLITS),
    "remove_columns": "columns other than the named ones are not read: leave it out",
    **dict.fromkeys(("dataloader_num_workers", "preprocessing_num_workers", "no_cuda", "use_cpu"), "use --threads"),
    **dict.fromkeys(("config_name", "tokenizer_name"), "they come with --model_name_or_path: leave it out"),
    "cache_dir": "set the environment variable HF_HOME",
    **dict.fromkeys(("token", "use_auth_token"), "set the environment variable HF_TOKEN"),
    "full_determinism": "use --reproducible machine",
    "data_seed": "--seed decides the order of rows, too",
    **dict.fromkeys(("optim", "adam_beta1", "adam_beta2", "adam_epsilon"), "it is AdamW with its usual numbers"),
    "label_smoothing_factor": "it has no counterpart: leave it out",
    "trust_remote_code": "code of a model is never run: leave it out",
    "shuffle_train_dataset": "rows are shuffled anew in each epoch: leave it out",
}
_SECRETS = ("hub_token", "token", "use_auth_token")
FLAGS = tuple(dict.fromkeys((*_RENAMED, *_ANYWAY, *_INSTEAD)))


def translate(given: Mapping[str, Sequence[str]]) -> tuple[dict[str, str], list[str]]:
    """Returns the flags of ours that these stand for, by name, and one phrase for each that nothing stands for.

    Args:
        given: values by name; none stands for true.
    """
    flags, mistakes = {}, []
    for name, values in given.items():
        value = " ".join(values) or "true"
        allowed = _ANYWAY.get(name)
        if allowed is not None and (not allowed or value.lower() in allowed):
            continue
        if name in _RENAMED:
            ours, meant = _RENAMED[name]
            flags[ours] = value if meant is None else meant
        else:
            # What is printed may be kept in a log.
            shown = () if name in _SECRETS else values
            mistakes.append(
                f"{' '.join((f'--{name}', *shown))}: {_INSTEAD.get(name, 'it has no counterpart: leave it out')}"
            )
    return flags, mistakes
