"""demo, why-miss: commands about a run, which take the flags of train_model.

What they need of the trainer is imported when they run, so that the other commands start at once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from src.cache_manager.commands.command import Answer, Commands, add_command
from src.cache_manager.store.store import Store
from src.cli.errors import RequestError
from src.cli.working_folder import working_folder
from src.training.run.request import Request, parse_request

if TYPE_CHECKING:
    from src.cache_manager.why_miss import Explanation


def add_commands(commands: Commands) -> None:
    """Adds demo and why-miss."""
    for name, run, summary in (
        ("demo", _demo, "train once, then hit; time how long models take to load, cold and warm"),
        ("why-miss", _why_miss, "show field by field how a run differs from the nearest model in the cache"),
    ):
        parser = add_command(commands, name, run, summary=summary)
        parser.set_defaults(takes_run_flags=True)
        parser.usage = f"{parser.prog} [FLAGS OF train_model] [--json]"
        parser.add_argument_group("run", "every flag of train_model: bazel run //src/training:train_model -- --help")


def _demo(store: Store, options: argparse.Namespace) -> Answer:
    # With --json standard output belongs to the JSON: what a training prints goes to standard error.
    with contextlib.redirect_stdout(sys.stderr if options.json else sys.stdout):
        from src.training.environment.determinism import prepare_environment
        from src.training.environment.stop_signal import StopSignal

        request = _request(options)
        # Before the imports that load numpy, which reads the environment once.
        prepare_environment(request.recipe.reproducible)
        from src.cache_manager.demo import demo
        from src.training.run.console import configure_logging

        stop = StopSignal(deadline_seconds=request.options.deadline_seconds)
        stop.install()
        configure_logging(stop=stop)
        data = demo(request, store=store, stop=stop)
    return Answer(data=data, lines=[])


def _why_miss(store: Store, options: argparse.Namespace) -> Answer:
    from src.cache_manager.keys.key import run_key
    from src.cache_manager.why_miss import explain
    from src.training.run.resolved_run import resolve_run

    with contextlib.redirect_stdout(sys.stderr):
        resolved = resolve_run(_request(options).recipe, folder=working_folder())
    explanation = explain(store, run_key(resolved))
    return Answer(data=dataclasses.asdict(explanation), lines=_explanation_lines(explanation))


def _request(options: argparse.Namespace) -> Request:
    from src.training.train_model import choose_default_recipe

    request = parse_request(options.run_flags, default_recipe=choose_default_recipe)
    if request.options.output_dir is not None:
        raise RequestError("--output_dir cannot be given here: the cache decides where a model is kept")
    if request.options.push_to_hub:
        raise RequestError("--push_to_hub cannot be given here: use it with train_model")
    return request


def _explanation_lines(explanation: Explanation) -> Iterator[str]:
    if explanation.hit:
        yield f"{explanation.key[:12]} is in the cache: it would be a hit"
        return
    yield f"{explanation.key[:12]} is {explanation.state or 'not in the cache'}"
    if explanation.evicted is not None:
        yield f"it was evicted at {explanation.evicted['time']}: {explanation.evicted['why']}"
    if explanation.nearest is None:
        yield "the cache has no other trained model to compare it with"
        return
    yield f"differences from the nearest model, {explanation.nearest[:12]}:"
    for difference in explanation.differences:
        yield f"  {difference['field']}: {_short(difference['wanted'])}, cached {_short(difference['cached'])}"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:16]}...{text[-4:]}"
