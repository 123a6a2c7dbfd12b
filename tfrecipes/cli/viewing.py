"""Verbs that look at runs: no TensorFlow, and what they need is imported inside them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tfrecipes.cli.program import Debug, app

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


@app.command()
def report(run: RunPath, debug: Debug = False) -> None:
    """Write RUN/report.html anew from the run's other files.

    It serves a finished run, a killed one, and a folder that tfr.Monitor alone wrote.
    """
    from tfrecipes.views.report import write_report

    typer.echo(write_report(run))


@app.command()
def diagnose(
    run: RunPath,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of findings.")] = False,
    debug: Debug = False,
) -> None:
    """Say in words what is wrong with a run, the worst and likeliest first, and what to do.

    Exit codes: 0 whatever was found, 2 where RUN is no run folder.
    """
    from tfrecipes.runs.folder import read_run
    from tfrecipes.views.findings import all_findings, findings_text

    read = read_run(run)
    findings = all_findings(read)
    if as_json:
        typer.echo(json.dumps(findings, indent=2, ensure_ascii=False))
    else:
        typer.echo(findings_text(read, findings))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Run folders.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the page.")] = Path(
        "compare.html"
    ),
    debug: Debug = False,
) -> None:
    """Lay runs over one another, and say what differs between them.

    Prints final and best values, what differs between recipes, facts and environments, and the
    path of one page with the curves.
    """
    from tfrecipes.views.compare import compare_runs, comparison_text, write_comparison

    compared = compare_runs(runs)
    written = write_comparison(compared, out)
    typer.echo(comparison_text(compared))
    typer.echo(written)
