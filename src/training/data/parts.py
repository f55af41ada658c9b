"""Which rows are trained on, which are scored after each epoch, and which give the final scores."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np

from src.cli.errors import RequestError
from src.training.data.labels import Label, Labels
from src.training.data.splits import plain, row_groups, sentence_groups, set_aside
from src.training.recipes.recipe import Recipe

_DEFAULT_VALIDATION_FRACTION = 0.1
# Each may share no rows with those after it.
_SPLITS = ("train", "validation", "test")

log = logging.getLogger(__name__)


class Rows(Protocol):
    """Rows of one split, whatever they hold."""

    @property
    def split(self) -> str:
        """Name of the split."""

    @property
    def labels(self) -> tuple[Label, ...]:
        """What each is labelled with; 0 where the rows themselves are what is learnt."""

    @property
    def whole_texts(self) -> tuple[str, ...]:
        """What makes a row the same as another."""

    @property
    def contents(self) -> Sequence[Hashable]:
        """All that a row holds, label or answer included."""

    def __len__(self) -> int: ...

    def select(self, rows: Sequence[int] | np.ndarray, *, split: str | None = None) -> Self:
        """Returns these rows, in this order."""

    def sha256(self, labels: Labels) -> str:
        """Hash of the rows' content in order."""


R = TypeVar("R", bound=Rows)


@dataclass(frozen=True, kw_only=True)
class Task(Generic[R]):
    """What is trained on, and what is scored.

    Attributes:
        labels: what the rows are labelled with.
        train: rows to train on.
        validation: rows scored after each epoch.
        test: rows for the final scores, which took no part in training or in choosing the epoch.
        selects_epoch: whether `validation` may choose the epoch that is kept: it may not where it is `test`.
    """

    labels: Labels
    train: R
    validation: R
    test: R
    selects_epoch: bool

    def content(self) -> dict[str, dict[str, Any]]:
        """Row counts and hashes of the three parts, for recipe.json."""
        return {
            role: {"split": rows.split, "rows": len(rows), "sha256": rows.sha256(self.labels)}
            for role, rows in (("train", self.train), ("validation", self.validation), ("test", self.test))
        }


def divide(splits: Mapping[str, R], labels: Labels, recipe: Recipe) -> Task[R]:
    """Divides rows into train, validation and test.

    Args:
        splits: the rows by the split that they come from, `train` among them.
        labels: of the rows.
        recipe: says how.

    Raises:
        RequestError: there are too few of them.
    """
    distinct = {split: _count_duplicates(rows, drop=recipe.drop_duplicates) for split, rows in splits.items()}
    distinct = _count_overlap(distinct, drop=recipe.drop_overlap)
    if recipe.drop_overlap and not labels.can_learn_from(distinct["train"].labels):
        raise RequestError(
            f"--drop_overlap leaves {len(distinct['train'])} train rows, too few to learn from: give rows that are not "
            "validation or test rows"
        )
    task = _limit(_assign(distinct, labels, recipe), recipe)
    if not labels.can_learn_from(task.train.labels):
        raise RequestError(
            f"--max_train_samples {recipe.max_train_samples} leaves rows of one label only: raise it, or change --seed"
        )
    return task


def _count_duplicates(rows: R, *, drop: bool) -> R:
    """Says how many rows of a split are exact copies of others, and leaves them out if asked to."""
    first: dict[Hashable, int] = {}
    for row, content in enumerate(rows.contents):
        first.setdefault(content, row)
    if (copies := len(rows) - len(first)) == 0:
        return rows
    then = "they are left out" if drop else "--drop_duplicates leaves them out"
    log.warning("%s: %s of %s rows are exact copies of others: %s", rows.split, f"{copies:,}", f"{len(rows):,}", then)
    return rows.select(sorted(first.values())) if drop else rows


def _count_overlap(splits: Mapping[str, R], *, drop: bool) -> dict[str, R]:
    """Says how many rows are in two splits, and leaves them out of the earlier one if asked to: scores stay comparable.

    Texts that are the same up to case and white space are one row, whatever their labels.
    """
    kept = dict(splits)
    texts = {split: [plain(text) for text in rows.whole_texts] for split, rows in splits.items()}
    given = [split for split in _SPLITS if split in splits]
    for at, earlier in enumerate(given):
        of_earlier, seen = set(texts[earlier]), set()
        for later in given[at + 1 :]:
            shared = sum(text in of_earlier for text in texts[later])
            seen.update(texts[later])
            if shared:
                then = f"they are left out of {earlier}" if drop else "scores of rows seen say little of new ones"
                log.warning(
                    "%s: %s of %s rows are %s rows too (the same text): %s%s",
                    later,
                    f"{shared:,}",
                    f"{len(splits[later]):,}",
                    earlier,
                    then,
                    "" if drop else f"; --drop_overlap leaves them out of {earlier}",
                )
        if drop and seen:
            kept[earlier] = splits[earlier].select([row for row, text in enumerate(texts[earlier]) if text not in seen])
            if not len(kept[earlier]):
                raise RequestError(f"--drop_overlap leaves no {earlier} rows: all of them are in later splits too")
    return kept


def _assign(splits: Mapping[str, R], labels: Labels, recipe: Recipe) -> Task[R]:
    """Assigns the splits to training, validation and test.

    If only validation rows are given, they give the final scores, and so cannot choose the epoch;
    `validation_fraction` then sets train rows aside to choose it.
    """
    test = splits.get("test") or splits.get("validation")
    validation = splits.get("validation") if "test" in splits else None
    fraction = recipe.validation_fraction
    if fraction is None and validation is None and (test is None or "test" in splits):
        fraction = _DEFAULT_VALIDATION_FRACTION
    train, carved = _carve(splits["train"], labels, recipe, fraction=0.0 if validation is not None else fraction or 0.0)
    if test is None:
        test = carved
    elif validation is None and len(carved):
        validation = carved
    selects_epoch = validation is not None and recipe.load_best_model_at_end
    return Task(
        labels=labels,
        train=train,
        validation=test if validation is None else validation,
        test=test,
        selects_epoch=selects_epoch,
    )


def _carve(rows: R, labels: Labels, recipe: Recipe, *, fraction: float) -> tuple[R, R]:
    """Returns the rows to train on and the rows set aside, which may be none."""
    if fraction == 0.0 and recipe.train_fraction == 1.0:
        return rows, rows.select([])
    by_sentence = recipe.split_unit == "sentence"
    groups = (sentence_groups if by_sentence else row_groups)(rows.whole_texts)
    # A sentence's phrases are of several classes.
    strata = None if by_sentence else labels.strata(rows.labels)
    aside = max(1, round(fraction * len(rows))) if fraction else 0
    wanted = min(int(recipe.train_fraction * len(rows)), len(rows) - aside)
    set_apart, train = set_aside(groups, sizes=[aside, wanted], seed=recipe.seed, strata=strata)
    learnable = labels.can_learn_from([rows.labels[row] for row in train])
    if not learnable or (aside and not len(set_apart)):
        raise RequestError(
            f"{len(rows)} train rows are too few to set {fraction:.0%} aside and train on {recipe.train_fraction:.0%}: "
            "give more rows, or a --validation_file"
        )
    return rows.select(train), rows.select(set_apart, split="validation")


def _limit(task: Task[R], recipe: Recipe) -> Task[R]:
    """Cuts the splits to the recipe's numbers of samples, chosen by its seed."""

    def cut(rows: R, max_rows: int | None) -> R:
        if max_rows is None or len(rows) <= max_rows:
            return rows
        return rows.select(np.sort(np.random.default_rng(recipe.seed).permutation(len(rows))[:max_rows]))

    max_test_rows = recipe.max_predict_samples if task.test.split == "test" else recipe.max_eval_samples
    return replace(
        task,
        train=cut(task.train, recipe.max_train_samples),
        validation=cut(task.validation, recipe.max_eval_samples),
        test=cut(task.test, max_test_rows),
    )
