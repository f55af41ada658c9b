"""Measures the training loop against the tutorial's and against transformers' best: one JSON object.

    bazel run //src/training:benchmark -- [--steps 40] [--rounds 3] [--full] [--seeds 5]
        [--train_file F --validation_file F --test_file F --text_column_name C --label_column_name C]

The loops take turns, so that a noisy neighbour slows all of them; medians are reported. --full also does the whole job
of each: tokenising, scoring before, training with scores after each epoch, scoring after, saving; and ours_fast, the
same rows in one epoch of batches of 64. --seeds N compares accuracies over N seeds.

    bazel run //src/training:benchmark -- --recipe embedded_llm [--rounds 3] [--max_train_samples 96] [--FIELD VALUE]

trains a language model for an epoch by our loop and by peft with transformers' Trainer, both with --bf16 if
it is given: rows and tokens a second, share of the matrix peak, memory, losses, and where a step spends its time; as
tables on standard error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from src.cli.errors import EXIT_DONE, RequestError, exit_code_of
from src.cli.parser import RefusingParser
from src.cli.working_folder import working_folder
from src.training.environment.bfloat16 import check_bfloat16
from src.training.environment.determinism import prepare_environment
from src.training.environment.stop_signal import StopSignal
from src.training.recipes.recipe import TEXT_GENERATION, Recipe
from src.training.run.request import cross_field_mistakes, parse_request

_WARM_UP_STEPS = 5
# A step's time is from its start to the next one's.
_MIN_STEPS = _WARM_UP_STEPS + 2
# Of a language model: a minute's work for either loop.
_LANGUAGE_ROWS = 96
_EMBEDDED = {"dataset_name": "embedded:movie_reviews"}


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of("benchmark", lambda: _run(arguments), debug="--debug" in arguments, answers=True)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = RefusingParser(prog="benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("train_file", "validation_file", "test_file", "text_column_name"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--label_column_name", default="label")
    parser.add_argument("--model_name_or_path", default="embedded:bert_tiny_minilm")
    parser.add_argument("--steps", type=int, default=40, help="steps of each loop in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--max_train_samples", type=int)
    parser.add_argument("--full", action="store_true", help="the whole job of each loop as well")
    parser.add_argument("--seeds", type=int, default=0, help="compare accuracies over so many seeds, 2 or more")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(arguments)


def _recipe(options: argparse.Namespace) -> Recipe:
    files = {name: getattr(options, name) for name in ("train_file", "validation_file", "test_file")}
    recipe = Recipe(
        model_name_or_path=options.model_name_or_path,
        text_column_name=options.text_column_name or (None if options.train_file else "text"),
        label_column_name=options.label_column_name,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        max_train_samples=options.max_train_samples,
        threads=options.threads,
        **(files if options.train_file else _EMBEDDED),
    )
    mistakes = cross_field_mistakes(recipe)
    if options.steps < _MIN_STEPS or options.rounds < 1:
        mistakes.append(f"--steps must be {_MIN_STEPS} or more and --rounds above 0")
    if options.seeds < 0 or options.seeds == 1:
        mistakes.append("--seeds must be 2 or more: one seed shows nothing")
    if mistakes:
        raise RequestError("; ".join(mistakes))
    return recipe


def _run(arguments: list[str]) -> int:
    result = _language_model(arguments) if _names_recipe(arguments) else _classifier(arguments)
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return EXIT_DONE


def _names_recipe(arguments: list[str]) -> bool:
    return any(argument.partition("=")[0] == "--recipe" for argument in arguments)


def _language_model(arguments: list[str]) -> dict[str, Any]:
    parser = RefusingParser(prog="benchmark", allow_abbrev=False, add_help=False)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--debug", action="store_true")
    options, flags = parser.parse_known_args(arguments)
    asked = parse_request(["--max_train_samples", str(_LANGUAGE_ROWS), *flags], default_recipe=lambda: "embedded_llm")
    # Trainer counts warm-up steps from 0, ours from 1. Neither dropout nor selecting an epoch could be compared.
    fixed: dict[str, Any] = {"warmup_ratio": 0.0, "num_train_epochs": 1, "max_eval_samples": 1, "lora_dropout": 0.0}
    recipe = dataclasses.replace(asked.recipe, max_predict_samples=1, max_generate_samples=0, **fixed)
    if options.rounds < 1:
        raise RequestError("--rounds must be above 0")
    prepare_environment(recipe.reproducible)
    if recipe.bf16:
        check_bfloat16()
    from src.training.benchmarks.language_contest import LanguageContest, summary
    from src.training.benchmarks.peak_flops import peak_flops
    from src.training.environment.description import describe_environment
    from src.training.environment.determinism import configure_torch
    from src.training.run.resolved_run import resolve_run

    configure_torch(recipe.reproducible)
    resolved = resolve_run(recipe, folder=working_folder())
    if resolved.recipe.task != TEXT_GENERATION:
        raise RequestError("--recipe is for language models: without it, a classifier's loops are compared")
    with tempfile.TemporaryDirectory() as folder:
        contest = LanguageContest(resolved, scratch=Path(folder))
        memory_peaks = contest.memory_peaks()
        epochs = contest.take_turns(rounds=options.rounds)
        shares = contest.step_shares()
    # A core of its own for each process: not what the library makes of several threads.
    peak = resolved.threads * peak_flops(threads=1, shapes=contest.product_shapes(), bf16=recipe.bf16)
    result = summary(
        epochs,
        memory_peaks=memory_peaks,
        rows=len(resolved.task.train),
        tokens_a_row=contest.tokens_a_row(),
        seconds_at_peak=contest.flops_an_epoch() / peak,
    )
    sys.stderr.write(_tables(result["loops"], shares))
    return {
        "rows": len(resolved.task.train),
        "batch_size": resolved.training_settings.rows_per_step,
        "tokens_a_row": contest.tokens_a_row(),
        "threads": resolved.threads,
        "reproducible": recipe.reproducible,
        "bf16": recipe.bf16,
        "peak_gflops": round(peak / 1e9, 1),
        **result,
        "share_of_a_step": shares,
        "environment": describe_environment(),
    }


def _tables(loops: dict[str, dict[str, Any]], shares: dict[str, float]) -> str:
    """Returns what a person reads of the result: the loops, and where a step of ours spends its time."""
    lines = [f"{'loop':26} {'tokens/s':>9} {'of peak':>8} {'memory':>9}"]
    for name, loop in loops.items():
        rate, share, memory = loop["tokens_per_second"], loop["fraction_of_peak"], loop["peak_memory_mb"]
        lines.append(f"{name:26} {rate:9,.0f} {share:8.0%} {memory:6,} MB")
    lines += ["", "a step of ours", *(f"{part:26} {share:9.1%}" for part, share in shares.items())]
    return "\n".join([*lines, ""])


def _classifier(arguments: list[str]) -> dict[str, Any]:
    options = _parse(arguments)
    recipe = _recipe(options)
    prepare_environment(recipe.reproducible)
    # numpy and torch are loaded here, after the environment that they read.
    from src.training.benchmarks.contest import Contest
    from src.training.benchmarks.seed_comparison import compare_seeds
    from src.training.environment.determinism import configure_torch
    from src.training.run.resolved_run import resolve_run

    configure_torch(recipe.reproducible)
    with tempfile.TemporaryDirectory() as folder:

        def make(seed: int) -> Contest:
            resolved = resolve_run(dataclasses.replace(recipe, seed=seed), folder=working_folder())
            return Contest(
                resolved.training_settings,
                task=resolved.task,
                problem=resolved.problem,
                base=resolved.base,
                max_seq_length=recipe.max_seq_length,
                threads=resolved.threads,
                scratch=Path(folder),
                stop=StopSignal(deadline_seconds=None),
            )

        contest = make(recipe.seed)
        result = _sample(contest, rounds=options.rounds, steps=options.steps)
        if options.full:
            result["full"] = {name: contest.whole_job(name) for name in contest.jobs}
            _add_ratios(result["full"], key="seconds")
        if options.seeds:
            result["accuracy_over_seeds"] = compare_seeds(options.seeds, make=make)
    return result


def _sample(contest: Any, *, rounds: int, steps: int) -> dict[str, Any]:
    """Measures some steps of each loop, by turns, and the machine."""
    from src.training.benchmarks.peak_flops import peak_flops, training_flops_a_token
    from src.training.environment.description import describe_environment

    batch_size, threads = contest.settings.per_device_train_batch_size, contest.threads
    environment = describe_environment()  # what can fail here fails before the measurement
    times = _take_turns(contest, rounds=rounds, steps=steps)
    peak = peak_flops(threads=threads)
    work = training_flops_a_token(contest.model) * batch_size * contest.tokens_a_row()
    return {
        "batch_size": batch_size,
        "threads": threads,
        "train_rows": len(contest.task.train),
        "tokens_a_row": contest.tokens_a_row(),
        "padding_share": contest.padding_shares(),
        "sample": _summary(times, contest=contest),
        "environment": environment,
        "peak_gflops": round(peak / 1e9, 1),
        "fraction_of_peak": {name: round(work / statistics.median(all_) / peak, 4) for name, all_ in times.items()},
    }


def _take_turns(contest: Any, *, rounds: int, steps: int) -> dict[str, list[float]]:
    """Returns seconds a step by loop, without each round's warm-up."""
    times: dict[str, list[float]] = {name: [] for name in contest.names}
    for _ in range(rounds):
        for name in contest.names:
            times[name] += contest.sample(name, steps=steps, skip=_WARM_UP_STEPS)
    return times


def _summary(times: dict[str, list[float]], *, contest: Any) -> dict[str, dict[str, float]]:
    tokens = contest.settings.per_device_train_batch_size * contest.tokens_a_row()
    summary = {
        name: {
            "ms_a_step": round(1000 * statistics.median(all_), 2),
            "tokens_per_second": round(tokens / statistics.median(all_)),
        }
        for name, all_ in times.items()
    }
    _add_ratios(summary, key="ms_a_step")
    return summary


def _add_ratios(results: dict[str, dict[str, float]], *, key: str) -> None:
    """Adds how many times as long as ours each loop takes."""
    for result in results.values():
        result["times_ours"] = round(result[key] / results["ours"][key], 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
