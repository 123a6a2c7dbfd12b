"""Every measured number in the documentation, written from benchmarks/results/*.json.

    python docs/write_results.py            # docs/results.md and diagnosis_benchmark.md, README.md,
                                            # the heads of saved_recipes/
    python docs/write_results.py --check    # exit 1 if one of them says something else

`make bench` calls it. Only what stands between the README's marks and the lines `# Result` of the
run cards are touched there; of `default`'s card only the lines that begin with a benchmark's task.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import diagnosis_page
import rate_tables

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CARD_WIDTH = 98
MARKS = ("<!-- results -->", "<!-- /results -->")
TASKS = {"cifar10_cnn": "CIFAR-10", "shakespeare_transformer": "characters"}

Pages = dict[Path, str]


def load(name: str) -> dict[str, Any] | None:
    """One benchmark's JSON, or None where it has not been run."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def pages() -> Pages:
    """Every file that holds measured numbers, as it should be."""
    found: Pages = {ROOT / "docs" / "results.md": results_page()}
    if (measured := load("diagnosis")) is not None:
        page = ROOT / "docs" / "diagnosis_benchmark.md"
        found[page] = diagnosis_page.page(measured, where(measured))
    readme = ROOT / "README.md"
    found[readme] = between_marks(readme.read_text(encoding="utf-8"), readme_section())
    found.update(cards())
    return found


def between_marks(text: str, section: str) -> str:
    """`text` with `section` between the two marks.

    Raises:
        ValueError: If the marks are not both there.
    """
    begin, end = MARKS
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"README.md: must hold {begin} and {end} once each. Put them back.")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{section}\n{end}{rest.split(end)[1]}"


def percent(spread: dict[str, float]) -> str:
    """A share with its range: 72.3 % (71.9 to 72.8)."""
    low, high = 100 * spread["min"], 100 * spread["max"]
    return f"{100 * spread['mean']:.1f} % ({low:.1f} to {high:.1f})"


def plain(spread: dict[str, float]) -> str:
    """A number with its range."""
    return f"{spread['mean']:.3f} ({spread['min']:.3f} to {spread['max']:.3f})"


def quality(measured: dict[str, Any]) -> list[str]:
    """The table of `default` against stock."""
    lines = [
        "| task, equal epochs and batch | | validation accuracy | validation loss |",
        "|---|---|---|---|",
    ]
    for task in measured["results"]["tasks"].values():
        title = f"{task['title']}, {task['epochs']} epochs of {task['train_samples']:,}"
        for way, label in (
            ("stock", "`keras.optimizers.Adam()`, `fit`"),
            ("default", "recipe `default`"),
        ):
            lines.append(
                f"| {title if way == 'stock' else ''} | {label} | {percent(task[way]['accuracy'])} "
                f"| {plain(task[way]['loss'])} |"
            )
    return lines


def readme_section() -> str:
    """What the README shows."""
    measured = load("default_against_stock")
    if measured is None:
        return "Not measured yet: `python benchmarks/default_against_stock.py`."
    seeds = seeds_of(measured)
    return "\n".join(
        [
            *quality(measured),
            "",
            f"Mean and range of {seeds} seeds on {measured['machine']}; "
            f"made by `{measured['command']}`. More in [docs/results.md](docs/results.md).",
        ]
    )


def seeds_of(measured: dict[str, Any]) -> int:
    """How many seeds were run."""
    return len(next(iter(measured["results"]["tasks"].values()))["runs"]["default"])


def where(measured: dict[str, Any]) -> str:
    """Command, machine, day and versions, as one paragraph."""
    versions = ", ".join(f"{k} {measured['packages'][k]}" for k in ("tensorflow", "keras"))
    return (
        f"`{measured['command']}`, {measured['started_at'][:10]}, {measured['machine']}, "
        f"{versions}, Python {measured['python']}."
    )


def results_page() -> str:
    """docs/results.md."""
    parts = [
        "# What was measured",
        "Written by `docs/write_results.py` from `benchmarks/results/`; `make bench` makes both anew. "
        "Times were taken on a machine that others used too: how many of its cores they kept busy "
        "stands beside them, and only ratios of runs taken in turn mean much.",
        *against_stock_part(),
        *saved_recipes_part(),
        *step_part(),
        *monitor_part(),
        *update_part(),
        *rates_part(),
        *search_part(),
    ]
    return "\n\n".join(parts) + "\n"


def against_stock_part() -> list[str]:
    """`default` against stock."""
    measured = load("default_against_stock")
    if measured is None:
        return []
    lines = [
        "| task | an epoch | whole `fit`, tracing and compilation included | cores busy with others |",
        "|---|---|---|---|",
    ]
    for task in measured["results"]["tasks"].values():
        ratio = task["time_ratio"]
        busy = [run["cores_busy_with_others"] for runs in task["runs"].values() for run in runs]
        lines.append(
            f"| {task['title']} | {ratio['epoch_seconds']['mean']:.2f} "
            f"({ratio['epoch_seconds']['min']:.2f} to {ratio['epoch_seconds']['max']:.2f}) "
            f"| {ratio['seconds']['mean']:.2f} "
            f"({ratio['seconds']['min']:.2f} to {ratio['seconds']['max']:.2f}) "
            f"| {sum(busy) / len(busy):.1f} |"
        )
    return [
        "## The recipe `default` against stock Adam",
        where(measured),
        "Same initial weights, data, epochs and batch size; measured is the model that `fit` leaves. "
        f"Mean (least to largest) of {seeds_of(measured)} seeds. The loss is the plain cross-entropy, "
        "without smoothing.",
        "Stock Adam has its own rate, 1e-3, and was not tuned: that is the claim. The recipe's peak, "
        "4e-3, stood before; 1e-2 was tried beside it on half the CNN's epochs and on the "
        "characters, and 2e-3 on the CNN, one seed each, on the same validation data. The CNN liked "
        "1e-2 better, the characters 4e-3, which stayed. How much of the gain is the rate alone was not measured.",
        "\n".join(quality(measured)),
        "Time, `default` / stock, of runs taken in turn:",
        "\n".join(lines),
    ]


def saved_recipes_part() -> list[str]:
    """Each recipe's own run."""
    measured = load("saved_recipes")
    if measured is None:
        return []
    lines = [
        "| recipe | data | epochs | validation accuracy | loss | s |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in measured["results"]["recipes"].items():
        lines.append(
            f"| {name} | {row['task']} | {row['epochs']} | {percent(row['accuracy'])} "
            f"| {plain(row['loss'])} | {row['seconds']['mean']:.0f} |"
        )
    return [
        "## The saved recipes",
        where(measured),
        "`digits` is the demo of `tfrecipes train --recipe NAME --seed S`; `characters` the "
        "transformer from above. `transformer`'s peak is the better of two that were tried on these "
        "very data, 1e-3 and 3e-3; at 1e-3 it was no better than stock Adam. The other recipes have "
        "the rates that they had before. `finetune` is unmeasured because it needs weights learned "
        "elsewhere, `diffusion` because it needs days.",
        "\n".join(lines),
    ]


def step_part() -> list[str]:
    """Our step against bare `fit`."""
    measured = load("step_cost")
    if measured is None:
        return []
    lines = [
        "| net | optimizer | bare `fit` [ms a step] | ours / bare | range | cores busy with others |",
        "|---|---|---|---|---|---|",
    ]
    for net, rows in measured["results"]["ratios"].items():
        for optimizer, row in rows.items():
            ratio = row["ratio"]
            lines.append(
                f"| {net} | {optimizer} | {row['bare_step_ms']:.2f} | {ratio['median']:.2f} "
                f"| {ratio['min']:.2f} to {ratio['max']:.2f} | {row['cores_busy_with_others']:.1f} |"
            )
    return [
        "## What the step costs",
        where(measured),
        "Ours is `TrainStep`, `EMA`, `Monitor` with its files and a clip; bare is stock `fit` with "
        "Keras's AdamW and none of it. Median of pairs taken in turn.",
        "\n".join(lines),
    ]


def monitor_part() -> list[str]:
    """Everything on against nothing on."""
    measured = load("monitor_cost")
    if measured is None:
        return []
    lines = [
        "| net | parameters | step without [ms] | with / without | middle half | range "
        "| fixed [ms] | cores busy with others |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for net, row in measured["results"]["ratios"].items():
        ratio = row["ratio"]
        lines.append(
            f"| {net} | {row['parameters']:,} | {row['step_ms']:.2f} | {ratio['median']:.3f} "
            f"| {ratio['quarter']:.3f} to {ratio['three_quarters']:.3f} "
            f"| {ratio['min']:.3f} to {ratio['max']:.3f} | {row['around_ms']:.0f} "
            f"| {row['cores_busy_with_others']:.1f} |"
        )
    return [
        "## What it costs to see a run",
        where(measured),
        "With is `tfr.Monitor(directory)` as it comes: every column, layers every 16th step, facts, "
        "the machine, TensorBoard, the rules at each epoch's end. Without is the same step, "
        "`tfr.TrainStep()`. Ratios of the mean epoch after the first, of fits taken in turn. Fixed is what a fit "
        "takes longer before its first epoch and after its last. Beside others' work on the same "
        "cores a ratio is only as sure as its middle half is narrow.",
        "\n".join(lines),
    ]


def update_part() -> list[str]:
    """One update against Keras's and torch's."""
    measured = load("update_cost")
    if measured is None:
        return []
    found = measured["results"]
    lines = [
        f"| | median [ms] | least [ms] | / {found['reference']} |",
        "|---|---|---|---|",
        *(
            f"| {name} | {row['median_ms']:.1f} | {row['min_ms']:.1f} | {row['ratio']:.2f} |"
            for name, row in found["rows"].items()
        ),
    ]
    return [
        "## What an update costs",
        where(measured),
        f"{found['parameters']:,} parameters in {found['tensors']} tensors, with decay and clip; "
        f"{found['cores_busy_with_others']:.1f} cores were busy with others.",
        "\n".join(lines),
    ]


def rates_part() -> list[str]:
    """The learning-rate finder."""
    measured = load("lr_finder")
    return [] if measured is None else rate_tables.part(measured, where(measured))


def search_part() -> list[str]:
    """Quasi-random points against random ones."""
    measured = load("search")
    if measured is None:
        return []
    found = measured["results"]
    methods = list(next(iter(found["tasks"].values()))["scores"])
    lines = [
        f"| task | after | {' | '.join(methods)} |",
        "|---|---|" + "---|" * len(methods),
    ]
    for task in found["tasks"].values():
        for count, row in task["after"].items():
            cells = " | ".join(plain(row[method]) for method in methods)
            lines.append(f"| {task['title']} | {count} | {cells} |")
    against = [
        f"{method} is no worse than random with {count} of {found['seeds']} seeds on {task['title']}"
        for task in found["tasks"].values()
        for method, count in task["not_worse_than_random"].items()
    ]
    parts = [
        "## Quasi-random search against random search",
        where(measured),
        f"Validation loss of the best trial so far, after so many of {found['trials']} trials: mean "
        f"(least to largest) of {found['seeds']} searches. Peak rate, weight decay and warmup are "
        "searched over wide ranges; every trial is a training, all with the same seed.",
        "\n".join(lines),
        "After all trials " + "; ".join(against) + ".",
    ]
    timed = found["workers"]
    if timed is not None:
        parts.append(
            f"Two workers took {timed['ratio']['median']:.2f} of one process's time for "
            f"{found['trials']} trials; {timed['cores_busy_with_others']:.1f} cores were busy with "
            "others."
        )
    return parts


def cards() -> Pages:
    """The heads of the recipes whose results a benchmark has."""
    found: Pages = {}
    measured = load("saved_recipes")
    for name, row in (measured or {"results": {"recipes": {}}})["results"]["recipes"].items():
        line = (
            f"{row['task']}, {row['epochs']} epochs: accuracy {percent(row['accuracy'])}, "
            f"{len(row['runs'])} seeds, {measured['machine']}"
        )
        path = ROOT / "saved_recipes" / f"{name}.toml"
        text = path.read_text(encoding="utf-8")
        found[path] = re.sub(
            r"^# Result .*(?:\n#          .*)*", card_lines(line, True), text, flags=re.M
        )
    against = load("default_against_stock")
    if against is not None:
        path = ROOT / "saved_recipes" / "default.toml"
        found[path] = default_card(path.read_text(encoding="utf-8"), against)
    return found


def default_card(text: str, measured: dict[str, Any]) -> str:
    """`default`'s card: the demo's own line and the machine's stay, the tasks' are replaced."""
    tasks = measured["results"]["tasks"]
    lines = [
        card_lines(
            f"{title}, {tasks[key]['epochs']} epochs: {percent(tasks[key]['default']['accuracy'])}, "
            f"stock Adam {percent(tasks[key]['stock']['accuracy'])}, {seeds_of(measured)} seeds",
            False,
        )
        for key, title in TASKS.items()
        if key in tasks
    ]
    known = "|".join(re.escape(title) for title in TASKS.values())
    head, rest = re.match(r"((?:#[^\n]*\n)+)(.*)", text, re.S).groups()  # pyright: ignore
    old = [bool(re.match(rf"#          (?:{known}),", line)) for line in head.splitlines()]
    place = old.index(True) if any(old) else len(old)
    kept = [line for line, goes in zip(head.splitlines(), old, strict=True) if not goes]
    return "\n".join([*kept[:place], *lines, *kept[place:]]) + "\n" + rest


def card_lines(words: str, first: bool) -> str:
    """A result as comment lines of a card."""
    lines, prefix = [""], "# Result   " if first else "#          "
    for word in words.split():
        if len(prefix) + len(lines[-1]) + len(word) + 1 > CARD_WIDTH:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join((prefix if i == 0 else "#          ") + line for i, line in enumerate(lines))


def main() -> int:
    """Write, or with --check say what differs."""
    check, stale = "--check" in sys.argv[1:], []
    for path, text in pages().items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.relative_to(ROOT))
        if not check:
            path.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{path}: {'differs from benchmarks/results' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
