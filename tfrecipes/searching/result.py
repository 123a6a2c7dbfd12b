"""What a search came to: table, best recipe, improvement; written once and read from the folder."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfrecipes.recipe.recipe import Recipe
from tfrecipes.searching.deciding import START, Contest, Interval
from tfrecipes.searching.dimensions import Dimension
from tfrecipes.searching.files import Record, SearchFolder
from tfrecipes.searching.space import Space
from tfrecipes.searching.telling import short, value_text
from tfrecipes.views.search_plots import plot_search


@dataclass(frozen=True)
class SearchResult:
    """The result of `tfr.search`; prints as a table.

    Attributes:
        table: One dict a trial: `trial`, each searched field by its dotted name (None where a
            trial's optimizer or schedule has it not), `score` (None where it crashed), `error`
            (the exception's own words, else empty), `finding` (what the diagnosis of the run ranks
            first) and `seconds`.
        best: The best recipe.
        best_path: Its file, which `Recipe.load` takes.
        best_trial: Its trial; None where no trial beat the starting recipe.
        best_hyperparameters: What `build_model`'s own dimensions were in it.
        improvement: Over the starting recipe, on fresh seeds, paired by seed, above 0 is better:
            `.mean .low .high .n .confidence`. None where it was not measured.
        best_score: The best recipe's score on the fresh seeds, as an interval, or None.
        start_score: The starting recipe's.
        remarks: Sentences: a best on a range's end, two recipes that could not be told apart.
        objective: What was searched by.
        direction: "min" or "max".
        directory: The search's folder.
        dimensions: What was searched.
    """

    table: list[dict[str, Any]]
    best: Recipe
    best_path: Path
    best_trial: int | None
    best_hyperparameters: dict[str, Any]
    improvement: Interval | None
    best_score: Interval | None
    start_score: Interval | None
    remarks: tuple[str, ...]
    objective: str
    direction: str
    directory: Path
    dimensions: tuple[Dimension, ...]
    start: Recipe

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draws the score over each searched field, a panel a field.

        Args:
            path: Where to write the picture; its suffix decides the format. None writes nothing.

        Returns:
            The matplotlib figure.
        """
        logarithmic = [d.field for d in self.dimensions if d.kind == "log"]
        return plot_search(
            self.table,
            objective=self.objective,
            direction=self.direction,
            best=self.best_trial,
            start={d.field: _of(self.start, d.field) for d in self.dimensions},
            logarithmic=logarithmic,
            subtitle=self.improvement_text(),
            path=path,
        )

    def improvement_text(self) -> str:
        """The improvement in one sentence."""
        if self.improvement is None:
            return "over the starting recipe: not measured"
        if self.best_trial is None:
            return "none: no trial beat the starting recipe"
        gain = self.improvement
        word = "better" if gain.mean >= 0 else "worse"
        unsure = "; the interval holds 0" if gain.low <= 0 <= gain.high else ""
        return (
            f"{self.objective}: {abs(gain.mean):.3g} {word} than the starting recipe "
            f"({gain.low:.3g} to {gain.high:.3g}, {gain.confidence:.0%} of Student's t, paired, "
            f"{gain.n} fresh seeds{unsure})"
        )

    def __str__(self) -> str:
        lines = [text_table(self.table, self.objective, self.direction, self.best_trial), ""]
        who = "the starting recipe" if self.best_trial is None else f"trial {self.best_trial}"
        lines.append(f"Best        {who}: {_values(self)}")
        for label, one in (("Its score", self.best_score), ("Start", self.start_score)):
            if one is not None:
                lines.append(
                    f"{label:<11} {one.mean:.4g} ({one.low:.4g} to {one.high:.4g}, "
                    f"{one.n} fresh seeds)"
                )
        lines.append(f"Improvement {self.improvement_text()}")
        lines += [f"Remark      {remark}" for remark in self.remarks]
        lines.append(f"Recipe      {self.best_path}")
        return "\n".join(lines)


def conclude(
    folder: SearchFolder, contest: Contest, space: Space, asked: Mapping[str, Any]
) -> None:
    """Chooses the winner and writes `best.toml`, `table.csv` and `result.json`."""
    scores = folder.repeats()
    winner = contest.winner(scores)
    trial = folder.record(winner)
    changes = {} if trial is None else space.changes(trial.values)
    best = space.recipe(changes)
    # Of the starting recipe over itself it is 0, by as many seeds as it was trained with.
    gain = contest.gain(winner, START, scores)
    own, start = contest.mean(winner, scores), contest.mean(START, scores)
    remarks = _remarks(contest, scores, winner, space, changes, best)
    own_fields = {d.field for d in space.dimensions}
    hyperparameters = {
        k: v for k, v in (trial.values if trial else {}).items() if k not in own_fields
    }
    result = {
        "best_trial": None if trial is None else int(winner),
        "best_hyperparameters": hyperparameters,
        "improvement": None if gain is None else asdict(gain),
        "best_score": None if own is None else asdict(own),
        "start_score": None if start is None else asdict(start),
        "remarks": remarks,
        "finalists": list(contest.finalists),
    }
    card = _card(asked, result, space, folder.path)
    folder.finish(result, card + "\n" + best.to_toml(), csv_table(folder.trials(), space))


def read_result(folder: SearchFolder, space: Space, asked: Mapping[str, Any]) -> SearchResult:
    """The result of a search that is over, from its files."""
    written = folder.result() or {}
    interval = {
        key: None if written.get(key) is None else Interval(**written[key])
        for key in ("improvement", "best_score", "start_score")
    }
    return SearchResult(
        table=rows(folder.trials(), space),
        best=Recipe.load(folder.best_path),
        best_path=folder.best_path,
        best_trial=written["best_trial"],
        best_hyperparameters=written["best_hyperparameters"],
        remarks=tuple(written["remarks"]),
        objective=asked["objective"],
        direction=asked["direction"],
        directory=folder.path,
        dimensions=space.dimensions,
        start=space.start,
        **interval,
    )


def rows(trials: Sequence[Record], space: Space) -> list[dict[str, Any]]:
    """The table: one dict a trial."""
    names = [d.field for d in space.dimensions]
    names = list(dict.fromkeys([*names, *(k for record in trials for k in record.fields)]))
    return [
        {
            "trial": int(record.name),
            **{name: record.fields.get(name) for name in names},
            "score": record.score,
            "error": record.error,
            "finding": record.finding,
            "seconds": record.seconds,
        }
        for record in trials
    ]


def csv_table(trials: Sequence[Record], space: Space) -> str:
    """The table as CSV."""
    text, table = io.StringIO(), rows(trials, space)
    writer = csv.DictWriter(text, list(table[0]) if table else ["trial"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def text_table(
    table: Sequence[Mapping[str, Any]], objective: str, direction: str, best: int | None
) -> str:
    """The table as text, the best score first, trials without one last."""
    sign = 1 if direction == "min" else -1
    ordered = sorted(
        table,
        key=lambda row: (row["score"] is None, 0 if row["score"] is None else sign * row["score"]),
    )
    fields = [k for k in table[0] if k not in ("trial", "score", "error", "finding", "seconds")]
    cells = [["trial", *fields, objective, ""]]
    for row in ordered:
        score = "none" if row["score"] is None else f"{row['score']:.4g}"
        mark = short(row["error"]) if row["error"] else "best" if row["trial"] == best else ""
        cells.append([str(row["trial"]), *(value_text(row[f]) for f in fields), score, mark])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i < len(widths) - 1 else cell
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def _remarks(
    contest: Contest,
    scores: Mapping[tuple[str, int], float | None],
    winner: str,
    space: Space,
    changes: Mapping[str, Any],
    best: Recipe,
) -> list[str]:
    found = space.at_the_edge(changes, best)
    if not contest.repeats:
        return [*found, "no training was repeated: the best score is one seed's, and its luck too."]
    if winner == START:
        return ["no trial beat the starting recipe on fresh seeds, which is kept."]
    close = []
    for name in contest.finalists:
        gain = None if name == winner else contest.gain(winner, name, scores)
        if gain is not None and gain.low <= 0:
            close.append(f"trial {int(name)}")
    if close:
        found.append(
            f"trial {int(winner)} cannot be told from {' and '.join(close)} by these seeds: "
            "any of them will do."
        )
    return found


def _card(asked: Mapping[str, Any], result: Mapping[str, Any], space: Space, path: Path) -> str:
    """The head of the best recipe's file: where it comes from."""
    trial = result["best_trial"]
    who = "The starting recipe, which no trial beat" if trial is None else f"Trial {trial}"
    lines = [
        f"{who}, of a search of {asked['trials']} trials from the recipe {space.start.name}.",
        "",
        f"Source   {path}: method {asked['method']}, seed {asked['seed']}, "
        f"objective {asked['objective']} ({asked['direction']})",
    ]
    lines += [f"Searched {d.field}: {d}" for d in space.dimensions]
    lines += [f"Model    {k} = {v}" for k, v in result["best_hyperparameters"].items()]
    for label, key in (("Result  ", "best_score"), ("Start   ", "start_score")):
        one = result[key]
        if one is not None:
            lines.append(
                f"{label} {asked['objective']} {one['mean']:.4g} ({one['low']:.4g} to "
                f"{one['high']:.4g}, {one['n']} fresh seeds)"
            )
    if result["improvement"] is not None:
        gain = result["improvement"]
        lines.append(
            f"Better   by {gain['mean']:.3g} ({gain['low']:.3g} to {gain['high']:.3g}), paired by seed"
        )
    # A comment ends where its line does, and TOML allows no control characters in one.
    plain = ["".join(c if c.isprintable() else " " for c in line) for line in lines]
    return "\n".join(f"# {line}".rstrip() for line in plain)


def _values(result: SearchResult) -> str:
    told = [f"{d.field} {value_text(_of(result.best, d.field))}" for d in result.dimensions]
    told += [f"{k} {value_text(v)}" for k, v in result.best_hyperparameters.items()]
    return ", ".join(told)


def _of(recipe: Recipe, field: str) -> Any:
    """A recipe's value by its dotted name; None where it has none."""
    table, dot, key = field.partition(".")
    found = getattr(recipe, table, None)
    return getattr(found, key, None) if dot else found
