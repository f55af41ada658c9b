"""demo, why-miss: commands about a run, which take the flags of train_model.

What they need of the trainer is imported when they run: the other commands answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from src.cache_manager.commands.command import Answer, Command
from src.cache_manager.store.store import Store
from src.cli.errors import RequestError
from src.cli.working_folder import working_folder
from src.training.run.request import Request, parse_request

if TYPE_CHECKING:
    from src.cache_manager.why_miss import Explanation


def _demo(store: Store, given: argparse.Namespace) -> Answer:
    # With --json standard output belongs to the document: what a training tells goes to standard error.
    with contextlib.redirect_stdout(sys.stderr if given.json else sys.stdout):
        from src.training.environment.determinism import prepare_environment
        from src.training.environment.stop_signal import StopSignal

        request = _request(given)
        # Before the imports that load numpy, which reads the environment once.
        prepare_environment(request.recipe.reproducible)
        from src.cache_manager.demo import demo
        from src.training.run.console import configure_logging

        configure_logging()
        stop = StopSignal(deadline_seconds=request.options.deadline_seconds)
        stop.install()
        document = demo(request, store=store, stop=stop)
    return Answer(document=document, lines=[])


def _why_miss(store: Store, given: argparse.Namespace) -> Answer:
    from src.cache_manager.keys.key import run_key
    from src.cache_manager.why_miss import explain
    from src.training.run.resolved_run import resolve_run

    with contextlib.redirect_stdout(sys.stderr):
        resolved = resolve_run(_request(given).recipe, folder=working_folder())
    explanation = explain(store, run_key(resolved))
    return Answer(document=dataclasses.asdict(explanation), lines=_explanation_lines(explanation))


def _request(given: argparse.Namespace) -> Request:
    from src.training.train_model import choose_default_recipe

    request = parse_request(given.run_flags, default_recipe=choose_default_recipe)
    if request.options.output_dir is not None:
        raise RequestError("--output_dir has no place here: the cache decides where a model is kept")
    return request


def _explanation_lines(found: Explanation) -> Iterator[str]:
    if found.hit:
        yield f"{found.key[:12]} is in the cache: it would be a hit"
        return
    yield f"{found.key[:12]} is not in the cache" if found.state is None else f"{found.key[:12]} is {found.state}"
    if found.evicted is not None:
        yield f"it was taken away at {found.evicted['time']}: {found.evicted['why']}"
    if found.nearest is None:
        yield "there is no other trained model to compare it with"
        return
    yield f"what differs from the nearest one, {found.nearest[:12]}:"
    for difference in found.differences:
        yield f"  {difference['field']}: {_short(difference['wanted'])}, there {_short(difference['cached'])}"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:16]}...{text[-4:]}"


COMMANDS = (
    Command(
        name="demo",
        summary="train once, then hit; and how long a hub model and one's own take to load, cold and warm",
        takes_run_flags=True,
        run=_demo,
    ),
    Command(
        name="why-miss",
        summary="what differs, field by field, between a run and the nearest model that the cache has",
        takes_run_flags=True,
        run=_why_miss,
    ),
)
