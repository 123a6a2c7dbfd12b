"""The tables of the learning-rate finder's benchmark."""

import math
from collections.abc import Iterable
from typing import Any

LABELS = {
    "finder": "finder",
    "minimum": "minimum / 10",
    "steep": "steep",
    "valley": "valley",
    "slide": "slide",
    "lightning": "Lightning",
}


def part(measured: dict[str, Any], where: str) -> list[str]:
    """The finder against a grid and against others' rules."""
    results = measured["results"]
    near = f"{100 * (results['near'] - 1):.0f} %"
    rows = list(results["workloads"].values())
    figure = [one for one in rows if not one["held_out"]]
    held_out = [one for one in rows if one["held_out"]]
    seeds = sorted({len(one["seeds"]) for one in rows})
    found = [
        "## The learning-rate finder",
        where,
        "Each workload was trained at nine peak rates, half a decade apart, and at the peak that "
        "`tfr.find_learning_rate` suggested. The loss is the training's objective, label smoothing "
        "included, mean of the last tenth of its steps; beside it the validation loss of the model "
        "that `fit` left. Both are divided by the best of the grid, so that 1 is as good as the "
        "grid's best, and were measured by a training of their own. The recipe is `default` with "
        "the optimizer named, its clip, warmup and cosine. "
        f"Seeds: {' or '.join(map(str, seeds))} a workload; a ratio is their mean.",
        _cost(rows),
        "On these five the finder's rule was set:",
        "\n".join(_finder(figure)),
    ]
    if held_out:
        found += ["On these it was only tried:", "\n".join(_finder(held_out))]
    found += [
        "A net that learns its training data by heart, as the CNN on 4,000 digits without clip and "
        "smoothing does, has an objective without a floor: a tenth of the rate is a multiple of the "
        "loss, and only its validation loss means anything.",
        _asked(results["totals"], near),
        f"Beside it the rules of fastai and Lightning: on how many workloads the loss was within "
        f"{near} of the grid's best. Their losses are the grid's, between its points linear in both "
        "logarithms. They read the finder's own sweeps, which are short, and sweeps of 100 steps "
        "without an end, which is what they were made for (the median of five orders of the data).",
        "\n".join(_totals(results["totals"])),
        "The ratio of each, on the log scale and sweeps of 100 steps:",
        "\n".join(_rules(rows)),
    ]
    return found


def _cost(rows: Iterable[dict[str, Any]]) -> str:
    """What the sweeps cost, and how long a training must be for them to be 5 % of it."""
    rows = list(rows)
    said = []
    for scale in ("log", "linear"):
        steps = [step for one in rows for step in _of(one, scale, "steps")]
        shares = [100 * share for one in rows for share in _of(one, scale, "share_of_time")]
        said.append(
            f"on the {scale} scale {min(steps)} to {max(steps)} steps, 5 % of a training of "
            f"{20 * max(steps):,}, and {min(shares):.0f} to {max(shares):.0f} % of the time"
        )
    lengths = [one["steps"] for one in rows]
    return (
        f"The trainings are short, {min(lengths):,} to {max(lengths):,} steps, and so the sweeps are "
        f"more than 5 % of most of them: {'; '.join(said)}. Most of that time is the tracing of "
        "their step, some seconds that do not grow with the training; those in the table are the "
        "median of three askings beside others' work."
    )


def _asked(totals: dict[str, Any], near: str) -> str:
    """How often the finder was right when it was asked with other seeds too."""
    said = [
        f"{scales[scale]['asked']['near']} of {scales[scale]['asked']['of']} times {place} on the "
        f"{scale} scale"
        for group, place in (("figure", "on the five"), ("held_out", "on the held-out ones"))
        for scales in [totals[group]]
        for scale in ("log", "linear")
    ]
    return (
        "Asked again with other initial weights and orders of the data (losses of these again the "
        f"grid's, interpolated), it was within {near} {', '.join(said)}."
    )


def _ratio(value: float | None) -> str:
    return "diverged" if value is None or math.isnan(value) else f"{value:.3f}"


def _mean(values: list[float | None]) -> float | None:
    if any(value is None for value in values):
        return None
    return sum(value for value in values if value is not None) / len(values)


def _of(one: dict[str, Any], scale: str, key: str) -> Any:
    return [seed["scales"][scale][key] for seed in one["seeds"]]


def _finder(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| workload | best rate of the grid | scale | suggestion | loss / best | validation / best "
        "| steps of the sweeps | time of the sweeps |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        for scale in ("log", "linear"):
            best = ", ".join(f"{seed['best_rate']:.2g}" for seed in one["seeds"])
            told = ", ".join(f"{rate:.2g}" for rate in _of(one, scale, "suggestion"))
            shares = [_mean(_of(one, scale, key)) for key in ("share_of_steps", "share_of_time")]
            seconds = _mean(_of(one, scale, "seconds"))
            cells = [
                one["title"] if scale == "log" else "",
                best if scale == "log" else "",
                scale,
                told,
                _ratio(_mean(_of(one, scale, "ratio"))),
                _ratio(_mean(_of(one, scale, "validation_ratio"))),
                f"{100 * (shares[0] or 0):.1f} %",
                f"{seconds or 0:.1f} s, {100 * (shares[1] or 0):.0f} %",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _totals(totals: dict[str, Any]) -> list[str]:
    lines = [
        f"| workloads | scale | sweeps | {' | '.join(LABELS.values())} |",
        "|---|---|---" + "|---" * len(LABELS) + "|",
    ]
    for group, scales in totals.items():
        for scale, ways in scales.items():
            for way, title in (("same_sweeps", "the finder's"), ("plain_sweeps", "100 steps")):
                keys = ["finder/finder", *(f"{way}/{rule}" for rule in LABELS if rule != "finder")]
                cells = [f"{ways[key]['near']} of {ways[key]['of']}" for key in keys]
                cells[0] = cells[0] if way == "same_sweeps" else ""
                name = "the five" if group == "figure" else "held out"
                lines.append(f"| {name} | {scale} | {title} | {' | '.join(cells)} |")
    return lines


def _rules(rows: Any) -> list[str]:
    others = [rule for rule in LABELS if rule != "finder"]
    lines = [
        f"| workload | finder | {' | '.join(LABELS[rule] for rule in others)} |",
        "|---|---" + "|---" * len(others) + "|",
    ]
    for one in rows:
        told = _of(one, "log", "plain_sweeps")
        cells = [_ratio(_mean(_of(one, "log", "ratio")))]
        for rule in others:
            ratios = [None if t[rule] is None else t[rule]["ratio"] for t in told]
            known = [t[rule] for t in told if t[rule] is not None]
            cells.append(_ratio(_mean(ratios)) if known else "no answer")
        lines.append(f"| {one['title']} | {' | '.join(cells)} |")
    return lines
