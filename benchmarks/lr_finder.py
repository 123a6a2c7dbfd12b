"""Claim: a training at the rate that `find_learning_rate` suggests ends near the best of a grid.

    python benchmarks/lr_finder.py               # trains what is missing, scores; about an hour
    python benchmarks/lr_finder.py --grid-only   # the grid's trainings, and plain sweeps of 100 steps
    python benchmarks/lr_finder.py --score-only  # with the grid that is there
    python benchmarks/lr_finder.py --quick       # that it runs; its numbers mean nothing

Each workload is trained at nine peak rates, half a decade apart, and at what the finder suggests, on
both scales. Compared is the training's final objective, the mean over the last tenth of its steps:
it is what a range test can know of; how the rate generalises shows in the validation loss beside it.
The rules of fastai and Lightning read the same sweeps, and sweeps of 100 steps, which is what they
were made for; their losses are the grid's, between its points linear in both logarithms. So are
those of the finder asked again with other weights and orders of the data. Its rule was set on the
five workloads of the figure; the held-out ones only score it.
"""

import argparse
import contextlib
import math
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from parts import data

NAME = "lr_finder"
ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / NAME  # which git ignores
SCALES = ("log", "linear")
PLAIN = 100  # steps of the plain sweeps, the others' default
OTHER = 100  # from the seed of one asking to the next: three sweeps use three seeds
NEAR = 1.05  # times the grid's best: what counts as found


def one_core() -> None:
    """A small net's step is no faster on more cores, and others' work disturbs it less."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(2)


def chosen(given: argparse.Namespace) -> dict[str, Any]:
    """The workloads that are asked for."""
    from parts import workloads

    if given.quick:
        return {"digits_sgd": workloads.quick()}
    return {name: workloads.WORKLOADS[name] for name in given.workload or workloads.WORKLOADS}


def train_grid(given: argparse.Namespace) -> None:
    """Do what is missing of the plain sweeps and of the grid."""
    from parts import rate_runs

    asked = [(scale, 20 if given.quick else PLAIN) for scale in SCALES]
    for name, workload in chosen(given).items():
        rate_runs.kept_sweeps(given.runs, name, workload, asked)
        for seed in range(given.seeds):
            runs = rate_runs.Runs(given.runs, name, workload, seed)
            for rate in workload.rates:
                runs.at(rate)


def score(given: argparse.Namespace) -> dict[str, Any]:
    """Ask the finder on each workload, train at what it says, compare with the grid."""
    from parts import rate_runs

    found = {}
    for name, workload in chosen(given).items():
        seeds = []
        for seed in range(given.seeds):
            runs = rate_runs.Runs(given.runs, name, workload, seed)
            if any(runs.known(rate) is None for rate in workload.rates):
                print(f"{name}, seed {seed}: no whole grid; left out.", flush=True)
                continue
            seeds.append(score_seed(given, name, workload, runs))
        if seeds:
            found[name] = {
                "title": workload.title,
                "held_out": workload.held_out,
                "optimizer": workload.optimizer,
                "batch_size": workload.batch_size,
                "steps": workload.steps(),
                "seeds": seeds,
            }
    return {"near": NEAR, "workloads": found, "totals": totals(found.values())}


def score_seed(given: argparse.Namespace, name: str, workload: Any, runs: Any) -> dict[str, Any]:
    """One seed of a workload."""
    import numpy as np
    from parts import rate_rules, rate_runs

    grid = [runs.known(rate) for rate in workload.rates]
    rates = np.array([row["rate"] for row in grid])
    losses, validation = (
        np.array([row[key] for row in grid]) for key in ("loss", "validation_loss")
    )
    best, best_validation = float(np.nanmin(losses)), float(np.nanmin(validation))

    def judged(suggested: dict[str, float | None]) -> dict[str, Any]:
        return {
            rule: None
            if rate is None
            else {"rate": rate, "ratio": number(rate_rules.loss_at(rate, rates, losses) / best)}
            for rule, rate in suggested.items()
        }

    plain = rate_runs.kept_sweeps(given.runs, name, workload, ())
    row: dict[str, Any] = {
        "seed": runs.seed,
        "grid": [{k: number(r[k]) for k in ("rate", "loss", "validation_loss")} for r in grid],
        "best_rate": float(rates[np.nanargmin(losses)]),
        "best": best,
        "best_validation": best_validation,
        "scales": {},
    }
    for scale in SCALES:
        told = rate_runs.ask(workload, scale, runs.seed)
        done = runs.at(told["suggestion"])
        again = [
            rate_runs.ask(workload, scale, runs.seed + OTHER * k) for k in range(1, given.sweeps)
        ]
        seconds = float(np.median([one["seconds"] for one in (told, *again)]))
        row["scales"][scale] = {
            **{k: told[k] for k in ("suggestion", "interval", "warning", "steps")},
            "seconds": seconds,
            "training": {k: number(v) for k, v in done.items()},
            "ratio": number(done["loss"] / best),
            "validation_ratio": number(done["validation_loss"] / best_validation),
            "share_of_steps": told["steps"] / workload.steps(),
            "share_of_time": seconds / done["seconds"],
            "other_seeds": [judged({"finder": one["suggestion"]})["finder"] for one in again],
            "own_rules": judged(told["rules"]),
            "same_sweeps": judged(rate_rules.together(told["learning_rates"], told["losses"])),
            "plain_sweeps": judged(
                rate_rules.together(*rate_runs.plain(plain, scale, 20 if given.quick else PLAIN))
            ),
        }
        one = row["scales"][scale]
        print(
            f"{name}, seed {runs.seed}, {scale}: {one['suggestion']:.3g} "
            f"({one['interval'][0]:.3g} to {one['interval'][1]:.3g}), grid {row['best_rate']:.3g}: "
            f"loss {shown(one['ratio'])} times the best, validation "
            f"{shown(one['validation_ratio'])}; {one['share_of_steps']:.1%} of the steps, "
            f"{one['share_of_time']:.1%} of the time. {one['warning']}",
            flush=True,
        )
    return row


def number(value: Any) -> Any:
    """None for what JSON has no word for."""
    return value if not isinstance(value, float) or math.isfinite(value) else None


def mean_ratio(seeds: Iterable[dict[str, Any]], scale: str, way: str, rule: str) -> float:
    """A rule's ratio over the seeds; NaN where it had no answer or the training none."""
    ratios = []
    for seed in seeds:
        one = seed["scales"][scale]
        found = one if way == "finder" else one[way].get(rule)
        ratio = None if found is None else found["ratio"]
        ratios.append(math.nan if ratio is None else ratio)
    return sum(ratios) / len(ratios)


def totals(workloads: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """On how many workloads each way was near the grid's best, by its mean over the seeds."""
    from parts import rate_rules

    ways = [("finder", "finder")]
    ways += [(way, rule) for way in ("same_sweeps", "plain_sweeps") for rule in rate_rules.NAMES]
    found: dict[str, Any] = {}
    every = list(workloads)
    for group in ("figure", "held_out"):
        rows = [one for one in every if one["held_out"] == (group == "held_out")]
        found[group] = {}
        for scale in SCALES:
            found[group][scale] = {
                f"{way}/{rule}": {
                    "near": sum(mean_ratio(r["seeds"], scale, way, rule) <= NEAR for r in rows),
                    "of": len(rows),
                }
                for way, rule in ways
            }
            ones = [seed["scales"][scale] for row in rows for seed in row["seeds"]]
            asked = [one["ratio"] for one in ones]
            asked += [again["ratio"] for one in ones for again in one["other_seeds"]]
            found[group][scale]["asked"] = {
                "near": sum(ratio is not None and ratio <= NEAR for ratio in asked),
                "of": len(asked),
            }
    return found


def shown(ratio: float | None) -> str:
    """A ratio, or that there is none."""
    return "-" if ratio is None or math.isnan(ratio) else f"{ratio:.3f}"


def table(results: dict[str, Any]) -> str:
    """The results as lines of text."""
    from parts import rate_rules

    rules = [("finder", "finder"), *(("same_sweeps", rule) for rule in rate_rules.NAMES)]
    lines = [
        f"{'loss / best of the grid':46s} {'scale':7s}" + "".join(f"{r:>10s}" for _, r in rules)
    ]
    for one in results["workloads"].values():
        for scale in SCALES:
            cells = [shown(mean_ratio(one["seeds"], scale, *which)) for which in rules]
            mark = "held out: " if one["held_out"] else ""
            lines.append(
                f"{(mark + one['title'])[:46]:46s} {scale:7s}" + "".join(f"{c:>10s}" for c in cells)
            )
    for group, scales in results["totals"].items():
        for scale, ways in scales.items():
            cells = [f"{ways[f'{way}/{r}']['near']}/{ways[f'{way}/{r}']['of']}" for way, r in rules]
            lines.append(
                f"{'within 5 %, ' + group:46s} {scale:7s}" + "".join(f"{c:>10s}" for c in cells)
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, score, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny digits, a short grid")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where trainings are kept")
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    parser.add_argument("--sweeps", type=int, default=3, help="how often the finder is asked")
    parser.add_argument("--workload", action="append", help="only this one")
    parser.add_argument("--grid-only", action="store_true", help="no finder, no table")
    parser.add_argument("--score-only", action="store_true", help="leave out what has no grid yet")
    parser.add_argument("--out", type=Path, help="another file for the JSON")
    given = parser.parse_args(arguments)
    one_core()
    try:
        with contextlib.ExitStack() as stack:
            if given.quick:
                given.seeds = given.sweeps = 1
                given.runs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            if not given.score_only:
                train_grid(given)
            if given.grid_only:
                return 0
            results = score(given)
    except data.MissingDataError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(results))
    if not (given.quick or given.workload) or given.out:
        from parts import record

        command = f"python benchmarks/{NAME}.py" + (" --quick" if given.quick else "")
        print(record.write(NAME, command, results, given.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
