"""The charts of a classifier: accuracies with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

from src.training.charts.geometry import (
    Chart,
    Dot,
    Event,
    Line,
    epoch_scale,
    joined,
    scored_at,
    value_scale,
)
from src.training.evaluation.intervals import wilson_interval


def accuracy_chart(
    events: Sequence[Event], *, split: str, rows: int, kept_epoch: int, score: str = "accuracy"
) -> Chart | None:
    """Draws the accuracy after each epoch with its 95 % interval.

    Args:
        events: content of events.jsonl.
        split: name of the examples that are scored after each epoch.
        rows: how many they are.
        kept_epoch: the epoch whose weights are kept, counted from 1.
        score: which share of right rows, as the events call it.

    Returns:
        The chart, or None where no epoch was scored.
    """
    scored = [event for event in events if event["event"] == "evaluation"]
    if not scored:
        return None
    shares = [event[score] for event in scored]
    bounds = [wilson_interval(round(share * rows), rows) for share in shares]
    x = epoch_scale(events)
    y = value_scale([100 * bound for pair in bounds for bound in pair], min_height=10.0, max_value=100.0)
    places = [x(scored_at(event, events)) for event in scored]
    dots = tuple(
        Dot(
            x=place,
            y=y(100 * share),
            low=y(100 * low),
            high=y(100 * high),
            label=f"epoch {event['epoch']}: {share:.1%} of {split} (95 % interval {low:.1%} to {high:.1%})",
            kept=event["epoch"] == kept_epoch,
        )
        for event, place, share, (low, high) in zip(scored, places, shares, bounds, strict=True)
    )
    lines = [Line(kind="scored", name=split, points=joined([(dot.x, dot.y) for dot in dots]))] if len(dots) > 1 else []
    return Chart(
        title=score.replace("_", " ").capitalize(),
        description=f"{'; '.join(dot.label for dot in dots)}. Epoch {kept_epoch} is kept.",
        x_ticks=x.ticks(),
        y_ticks=y.ticks(" %"),
        lines=tuple(lines),
        dots=dots,
        caption=f"On {rows:,} {split} rows after each epoch, with its 95\u00a0% interval; the ringed epoch is kept.",
    )
