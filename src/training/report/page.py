"""report.html: one page about one run, for people. It needs no network, and runs no script.

Texts and class names come from users' data: the template escapes all that it is given, and the page's own policy
forbids scripts and everything from outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from src.cli.formats import duration
from src.training.charts import geometry
from src.training.charts.text import printable
from src.training.engine.early_stopping import find_early_stop
from src.training.evaluation.result import FinishedRun

_FOLDER = Path(__file__).resolve().parent
# What every page begins with: its policy, after which no browser runs a script, whatever follows.
OPENING = (_FOLDER / "page.html.j2").read_text(encoding="utf-8").partition('<meta name="viewport"')[0]


def report_page(run: FinishedRun) -> str:
    """Returns the page; the same text for the same run."""
    template = run.problem.page_template
    return (
        page_environment(template.parent)
        .get_template(template.name)
        .render(
            run=run,
            before=run.before.metrics,
            after=run.after.metrics,
            head=_head(run),
            data=run.resolved["inputs"]["data"],
            effort=_effort(run),
            settings=_settings(run.resolved),
            **run.problem.page_view(run),
        )
    )


def page_environment(folder: Path) -> jinja2.Environment:
    """Returns what renders the templates of a folder, which extend page.html.j2."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, _FOLDER]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # What a macro returns is markup, and has been through this.
        finalize=lambda value: printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}\u00a0%"
    environment.globals["frame"] = geometry
    return environment


def _head(run: FinishedRun) -> dict[str, str]:
    """Returns what the page's first sentence is made of."""
    recipe = run.resolved["recipe"]
    return {
        "model": _short(recipe["model_name_or_path"]),
        "data": _short(recipe["dataset_name"] or recipe["train_file"])
        + (f" ({recipe['dataset_config_name']})" if recipe["dataset_config_name"] else ""),
    }


def _short(name: str) -> str:
    """Returns a name without the folder it lies in, or what says that it comes with the packages."""
    return Path(name).name if name.startswith(("/", ".", "~")) else name.removeprefix("embedded:")


def _effort(run: FinishedRun) -> list[tuple[str, str]]:
    """Returns (what, how much) of the time and the machine that training took."""
    effort, environment = run.effort, run.environment
    versions: Mapping[str, str] = environment["versions"]
    return [
        ("Training time", duration(effort["seconds"])),
        ("Steps", f"{effort['steps']:,} ({effort['epochs']:g} epochs)"),
        *_early_stop(run),
        ("Examples a second", f"{effort['examples_per_second']:,.0f}"),
        ("Tokens a second", f"{effort['tokens_per_second']:,.0f}, without padding"),
        ("Peak memory", f"{effort['peak_rss_bytes'] / 2**20:,.0f} MiB"),
        ("Device", f"{effort['device']}, threads: {effort['threads']}"),
        ("Processor", str(environment["cpu"])),
        ("System", f"{environment['os']}, Python {environment['python']}"),
        ("Packages", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


def _early_stop(run: FinishedRun) -> list[tuple[str, str]]:
    """Returns the row of a run that ended before its last epoch, if it did."""
    stop = find_early_stop(run.events)
    if stop is None:
        return []
    planned = run.resolved["recipe"]["num_train_epochs"]
    waited = stop["epochs_without_progress"]
    return [("Stopped early", f"after epoch {stop['epoch']} of {planned:g}: {waited} without a better score")]


def _settings(resolved: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns (key, value) of the recipe, without what it leaves open, and the hashes of what it named."""
    given = [
        (key, _setting(value))
        for key, value in resolved["recipe"].items()
        if value is not None and key != "description"
    ]
    hashes = [("sha256 of the model's weights", resolved["inputs"]["model"]["sha256"])]
    hashes += [
        (f"sha256 of the {role} rows", resolved["inputs"]["data"][role]["sha256"])
        for role in ("train", "validation", "test")
    ]
    return [*given, *hashes, ("fingerprint of the run", resolved["fingerprint"])]


def _setting(value: Any) -> str:
    """Returns a value as it stands in a recipe."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
