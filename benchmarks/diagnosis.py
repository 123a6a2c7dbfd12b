"""Claim: what `diagnose` and `check` say of a run is true, and names the cause of its fault.

    python benchmarks/diagnosis.py               # trains what is missing, checks, scores; an hour
    python benchmarks/diagnosis.py --score-only  # scores the runs that are there
    python benchmarks/diagnosis.py --quick       # that it runs; its numbers mean nothing

Faults are planted one at a time in real training programs of two families, and of a third on which
thresholds alone were set; half of them are stock `fit` with `tfr.Monitor`, half `recipe.fit`. Beside
them stand healthy programs. Thresholds were set on the split `derive` (seed 0), the figures are of
`report` (seeds 4 to 6): other architectures, other samples, other seeds. Runs are kept in `--runs`; one that is there is not trained again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from parts import data

NAME = "diagnosis"
ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "diagnosis"  # which git ignores
SEEDS = {"derive": (0,), "report": (4, 5, 6)}
# The third family serves the thresholds alone; `--family table` reports it too.
FAMILIES = {"derive": ("image", "text", "table"), "report": ("image", "text")}
HEALTHY, HEALTHY_SEEDS = "healthy", {"derive": (0,), "report": (4, 5)}
QUICK = ("rate_100_times", "softmax_as_logits")


class Case(NamedTuple):
    """One run: a fault or a healthy program, planted where, with which dice."""

    split: str
    family: str
    name: str
    seed: int

    def folder(self, runs: Path) -> Path:
        """The run's."""
        return runs / self.split / self.family / self.name / str(self.seed)


def cases(given: argparse.Namespace) -> Iterator[Case]:
    """Every run that is asked for."""
    from parts import faults, healthy

    for split in given.split or SEEDS:
        families = ("table",) if given.quick else FAMILIES[split]
        for family in given.family or (*families, HEALTHY):
            seeds = (HEALTHY_SEEDS if family == HEALTHY else SEEDS)[split]
            for seed in seeds[:1] if given.quick else seeds:
                if given.seed is not None and seed != given.seed:
                    continue
                if family == HEALTHY:
                    found = [one.name for one in healthy.every()]
                else:
                    found = [one.name for one in faults.every() if family in one.families]
                wanted = given.fault or (QUICK if given.quick else found)
                if given.quick and family == HEALTHY:
                    wanted = found[1:2]
                yield from (Case(split, family, n, seed) for n in found if n in wanted)


def program_of(case: Case) -> Any:
    """The program of a case, its fault planted."""
    from parts import faults, healthy, programs

    if case.family == HEALTHY:
        one = next(one for one in healthy.every() if one.name == case.name)
        return one.make(case.split, case.seed)
    fault = next(one for one in faults.every() if one.name == case.name)
    way = faults.way_of(fault, case.family, case.seed)
    program = programs.program(case.family, case.split, case.seed, way)
    fault.plant(program)
    return program


def train(case: Case, runs: Path, quick: bool) -> None:
    """Train one run into its folder; `fault.json` is written last."""
    from parts import faults, programs

    folder = case.folder(runs)
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    program = program_of(case)
    if quick:
        program.x, program.y, program.epochs = program.x[:128], program.y[:128], 2
    facts: dict[str, Any] = {**case._asdict(), "way": program.way}
    fault = next((one for one in faults.every() if one.name == case.name), None)
    if fault is not None:
        facts |= {"title": fault.title, "causes": fault.causes, "accepted": fault.accepted}
    try:
        facts |= programs.run(program, folder)
    except Exception as error:  # the run is the subject here: what it raised is a result
        facts["error"] = f"{type(error).__name__}: {error}"[:500]
    for name in ("checkpoints", "events"):  # nothing here reads them
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fault.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    said = {k: round(v, 3) for k, v in facts.items() if isinstance(v, float)}
    print(f"{'/'.join(map(str, case))} ({program.way}): {facts.get('error', said)}", flush=True)


def check(case: Case, runs: Path, quick: bool) -> None:
    """Ask `tfr.check` about a case before training, where the fault is of data or model."""
    import keras
    from parts import faults, programs

    import tfrecipes as tfr

    fault = next((one for one in faults.every() if one.name == case.name), None)
    if fault is not None and not fault.checked:
        return
    keras.utils.clear_session()
    keras.utils.set_random_seed(case.seed)
    program = program_of(case)
    if quick:
        program.x, program.y = program.x[:128], program.y[:128]
    began = time.monotonic()
    found = tfr.check(
        program.build(),
        given[0] if len(given := programs.source(program)) == 1 else given,
        validation_data=programs.held_out(program),
        loss=program.loss_object(),
    )
    path = case.folder(runs) / "check.json"
    path.write_text(json.dumps([one.as_dict() for one in found], indent=1) + "\n", encoding="utf-8")
    said = ", ".join(f"{one.severity} {one.rule}" for one in found) or "nothing"
    print(
        f"{'/'.join(map(str, case))}: check: {said} ({time.monotonic() - began:.1f} s)", flush=True
    )


def work(given: argparse.Namespace) -> None:
    """Train and check what is missing, in this process."""
    import keras
    import tensorflow as tf

    # One core: a run is timed by its steps, and small ones are no faster on more.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    keras.config.disable_interactive_logging()
    for case in cases(given):
        folder = case.folder(given.runs)
        if given.again or not (folder / "fault.json").exists():
            train(case, given.runs, given.quick)
        if given.checks and (given.checks_again or not (folder / "check.json").exists()):
            check(case, given.runs, given.quick)


def work_elsewhere(given: argparse.Namespace) -> int:
    """The same in a process for each split, family and seed, so that memory is given back."""
    groups = dict.fromkeys((case.split, case.family, case.seed) for case in cases(given))
    for split, family, seed in groups:
        command = [sys.executable, __file__, "--work", "--runs", str(given.runs)]
        command += ["--split", split, "--family", family, "--seed", str(seed)]
        for name in given.fault or ():
            command += ["--fault", name]
        for flag in ("quick", "again", "checks_again"):
            command += [f"--{flag.replace('_', '-')}"] if getattr(given, flag) else []
        command += [] if given.checks else ["--no-checks"]
        done = subprocess.run(command, check=False)
        if done.returncode:
            print(f"{NAME}: the process for {split}, {family}, {seed} failed.", file=sys.stderr)
            return 1
    return 0


def score(given: argparse.Namespace, split: str) -> dict[str, Any]:
    """Judge every run of a split that is there."""
    from parts import faults, scoring

    table = {fault.name: fault for fault in faults.every()}
    judged: list[dict[str, Any]] = []
    healthy: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for case in cases(argparse.Namespace(**{**vars(given), "split": [split]})):
        folder = case.folder(given.runs)
        if not (folder / "fault.json").exists():
            continue
        facts = json.loads((folder / "fault.json").read_text(encoding="utf-8"))
        row = {**case._asdict(), "way": facts["way"], "seconds": facts.get("seconds")}
        row |= {k: facts[k] for k in ("accuracy", "val_accuracy", "loss") if k in facts}
        if "error" in facts:
            errors.append({**row, "error": facts["error"]})
            continue
        said = scoring.findings_of(folder)
        if case.family == HEALTHY:
            row |= {way: {"alarms": scoring.alarms(f)} for way, f in said.items()}
            healthy.append(row)
        else:
            row |= {way: scoring.judge(table[case.name], f) for way, f in said.items()}
            judged.append(row)
    ways = ("diagnose", "diagnose_and_check")
    families = [f for f in faults.FAMILIES if any(run["family"] == f for run in judged)]

    def figures(runs: list[dict[str, Any]], false: dict[str, int]) -> dict[str, Any]:
        return {
            way: {
                "recall": scoring.recall(run[way] for run in runs),
                "precision": scoring.precision(
                    (run[way] for run in runs), false[way] if false else 0
                ),
            }
            for way in ways
        }

    false = {way: sum(len(r[way]["alarms"]) for r in healthy) for way in ways}
    return {
        "faults": len({run["name"] for run in judged}),
        "runs": judged,
        "healthy_runs": healthy,
        "errors": errors,
        "total": figures(judged, false),
        "families": {
            f: figures([run for run in judged if run["family"] == f], {}) for f in families
        },
        "ways": {
            w: figures([run for run in judged if run["way"] == w], {}) for w in ("stock", "recipe")
        },
        "per_fault": {
            name: {
                "title": fault.title,
                "why": fault.why,
                "causes": fault.causes,
                "checked": fault.checked,
                "families": {
                    f: {
                        way: [
                            sum(run[way]["hit"] for run in rows),
                            len(rows),
                            sum(len(run[way]["wrong"]) for run in rows),
                        ]
                        for way in ways
                    }
                    for f in families
                    if (rows := [r for r in judged if r["name"] == name and r["family"] == f])
                },
            }
            for name, fault in table.items()
            if any(run["name"] == name for run in judged)
        },
        "healthy": {
            way: scoring.share(sum(bool(run[way]["alarms"]) for run in healthy), len(healthy))
            for way in ways
        },
    }


def shown(split: str, found: dict[str, Any], details: bool) -> str:
    """The figures as lines of text."""
    lines = [
        f"{split}: {found['faults']} faults, {len(found['runs'])} faulty runs, "
        f"{len(found['healthy_runs'])} healthy, {len(found['errors'])} that raised"
    ]
    for name, fault in found["per_fault"].items():
        cells = [
            f"{family} {hits['diagnose'][0]}/{hits['diagnose'][1]}"
            f" ({hits['diagnose_and_check'][0]})"
            + (f" -{hits['diagnose'][2]}" if hits["diagnose"][2] else "")
            for family, hits in fault["families"].items()
        ]
        lines.append(f"  {name:28s} {'   '.join(cells)}")
    for way in ("diagnose", "diagnose_and_check"):
        lines.append(f"  {way}")
        rows = {"all": found["total"], **found["families"], **found["ways"]}
        for title, row in rows.items():
            r, p = row[way]["recall"], row[way]["precision"]
            lines.append(
                f"    {title:8s} recall {r['hits']}/{r['of']} ({r['low']:.2f} to {r['high']:.2f}), "
                f"precision {p['hits']}/{p['of']} ({p['low']:.2f} to {p['high']:.2f})"
            )
        h = found["healthy"][way]
        lines.append(f"    healthy runs with a false alarm: {h['hits']}/{h['of']}")
    if details:
        for run in found["runs"]:
            for way in ("diagnose", "diagnose_and_check"):
                row = run[way]
                if not row["hit"] or row["wrong"]:
                    place = f"{run['family']}/{run['name']}/{run['seed']}"
                    lines.append(
                        f"  {place} {way}: rank {row['rank']}, wrong {row['wrong']}, "
                        f"said {row['said']}"
                    )
        lines += [
            f"  healthy {run['name']}/{run['seed']} {way}: {run[way]['alarms']}"
            for run in found["healthy_runs"]
            for way in ("diagnose", "diagnose_and_check")
            if run[way]["alarms"]
        ]
        lines += [f"  {e['family']}/{e['name']}/{e['seed']}: {e['error']}" for e in found["errors"]]
    return "\n".join(lines)


def earlier(given: Sequence[str], results: Path) -> dict[str, Any]:
    """The totals of `report` by earlier rules, by a name: from files, or as the last record has them."""
    last = results / f"{NAME}.json"
    known = json.loads(last.read_text(encoding="utf-8"))["results"] if last.is_file() else {}
    found = dict(known.get("before") or {})
    for one in given:
        name, _, path = one.partition("=")
        report = json.loads(Path(path).read_text(encoding="utf-8"))["results"]["splits"]["report"]
        found[name] = {key: report[key] for key in ("total", "healthy")}
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and check what is missing, score, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two faults, two epochs, one seed")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the run folders are kept")
    parser.add_argument("--split", choices=SEEDS, action="append", help="only this one")
    parser.add_argument("--family", action="append", help="only this one, or `healthy`")
    parser.add_argument("--fault", action="append", help="only this one")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--again", action="store_true", help="train what is there anew")
    parser.add_argument("--checks-again", action="store_true", help="check anew")
    parser.add_argument("--no-checks", dest="checks", action="store_false", help="train alone")
    parser.add_argument("--score-only", action="store_true", help="train and check nothing")
    parser.add_argument("--details", action="store_true", help="print every miss of `derive`")
    parser.add_argument(
        "--before",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="JSON of runs that earlier rules scored, to be kept too",
    )
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="another file for the JSON")
    given = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        for name in ("cifar10_jpeg.npz", "tinyshakespeare.txt"):
            data.find(name)
    except data.MissingDataError as error:
        print(error, file=sys.stderr)
        return 2
    if given.work:
        work(given)
        return 0
    if given.quick and given.runs == RUNS:
        given.runs = RUNS.with_name("diagnosis-quick")
    if not given.score_only and work_elsewhere(given):
        return 1
    splits = {split: score(given, split) for split in given.split or SEEDS}
    for split, found in splits.items():
        print(shown(split, found, given.details and split == "derive"))
    whole = not (given.quick or given.split or given.family or given.fault)
    if whole or given.out:
        from parts import record

        command = f"python benchmarks/{NAME}.py" + (" --quick" if given.quick else "")
        results = {"splits": splits, "before": earlier(given.before, record.RESULTS)}
        print(record.write(NAME, command, results, given.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
