"""What a run is about to do, said before its first step."""

import sys
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Summary:
    """The facts of a run. None leaves a row out.

    Attributes:
        model: Its name.
        trainable_parameters: Count.
        frozen_parameters: Count of weights that no update moves.
        steps_per_epoch: Optimizer steps.
        epochs: Count.
        total_steps: Optimizer steps of the whole run.
        batch_size: Samples per step, over all replicas and micro-batches.
        micro_batches: Micro-batches a step; 1 or None is off.
        schedule: Its name ("warmup_cosine").
        peak_learning_rate: Rate.
        warmup_steps: Optimizer steps.
        end_learning_rate: Rate.
        precision: Policy ("float32").
        precision_reason: Why, one sentence.
        optimizer: Its name ("adamw").
        weight_decay: Coefficient.
        decayed_weights: Count of weights (tensors) that decay.
        excluded_weights: Count of those that do not.
        clip: Limit of the global norm.
        loss: Its name, and where it comes from if it was inferred.
        label_smoothing: What is smoothed and by how much, or why not ("0.1, in training only").
        average: "EMA, decay 0.999".
        devices: "CPU:0", "2 x NVIDIA H100".
        xla: "on" or "off".
        xla_reason: Why, one sentence.
        directory: The run folder.
        notes: Whatever else must be said, one sentence each.
    """

    model: str | None = None
    trainable_parameters: int | None = None
    frozen_parameters: int | None = None
    steps_per_epoch: int | None = None
    epochs: int | None = None
    total_steps: int | None = None
    batch_size: int | None = None
    micro_batches: int | None = None
    schedule: str | None = None
    peak_learning_rate: float | None = None
    warmup_steps: int | None = None
    end_learning_rate: float | None = None
    precision: str | None = None
    precision_reason: str | None = None
    optimizer: str | None = None
    weight_decay: float | None = None
    decayed_weights: int | None = None
    excluded_weights: int | None = None
    clip: float | None = None
    loss: str | None = None
    label_smoothing: str | None = None
    average: str | None = None
    devices: str | None = None
    xla: str | None = None
    xla_reason: str | None = None
    directory: str | None = None
    notes: tuple[str, ...] = ()


def _joined(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _count(number: int | None, words: str) -> str | None:
    return None if number is None else f"{number:,} {words}"


def _value(word: str, number: float | None) -> str | None:
    return None if number is None else f"{word} {number:g}"


def _because(what: str | None, reason: str | None) -> str:
    return f"{what} ({reason.rstrip('.')})" if what and reason else what or ""


def _steps(facts: Summary) -> str:
    if facts.total_steps is None:
        return _joined(_count(facts.steps_per_epoch, "an epoch"), _count(facts.epochs, "epochs"))
    if facts.steps_per_epoch is None or facts.epochs is None:
        return f"{facts.total_steps:,}"
    return f"{facts.steps_per_epoch:,} an epoch x {facts.epochs:,} = {facts.total_steps:,}"


def summary_rows(facts: Summary) -> list[tuple[str, str]]:
    """Label and text of every row that has something to say, in the order of reading."""
    micro = facts.micro_batches if (facts.micro_batches or 1) > 1 else None
    rows = [
        (
            "Model",
            _joined(
                facts.model,
                _count(facts.trainable_parameters, "trainable parameters"),
                _count(facts.frozen_parameters, "frozen"),
            ),
        ),
        ("Steps", _steps(facts)),
        (
            "Batch",
            _joined(
                _count(facts.batch_size, "samples a step"),
                _count(micro, "micro-batches"),
            ),
        ),
        (
            "Schedule",
            _joined(
                facts.schedule,
                _value("peak", facts.peak_learning_rate),
                _count(facts.warmup_steps, "warmup steps"),
                _value("end", facts.end_learning_rate),
            ),
        ),
        ("Precision", _because(facts.precision, facts.precision_reason)),
        (
            "Optimizer",
            _joined(
                facts.optimizer,
                _value("weight decay", facts.weight_decay),
                _count(facts.decayed_weights, "weights decayed"),
                _count(facts.excluded_weights, "excluded"),
            ),
        ),
        ("Clip", _value("global norm", facts.clip) or ""),
        ("Loss", facts.loss or ""),
        ("Smoothing", facts.label_smoothing or ""),
        ("Average", facts.average or ""),
        ("Devices", facts.devices or ""),
        ("XLA", _because(facts.xla, facts.xla_reason)),
        ("Run folder", facts.directory or ""),
    ]
    return [(label, text) for label, text in rows if text] + [
        ("Note", note) for note in facts.notes
    ]


def summary_text(facts: Summary) -> str:
    """The summary as plain lines, one a row.

    Example:
        >>> print(summary_text(Summary(model="digits", trainable_parameters=31786, epochs=10,
        ...                            steps_per_epoch=23, total_steps=230, clip=1.0)))
        Model       digits, 31,786 trainable parameters
        Steps       23 an epoch x 10 = 230
        Clip        global norm 1
    """
    return "\n".join(f"{label:<11} {text}" for label, text in summary_rows(facts))


def print_summary(facts: Summary, file: TextIO | None = None) -> None:
    """Prints the summary: a table in a terminal, plain lines in a pipe or a file.

    Args:
        facts: What to say.
        file: Where; None is standard output.
    """
    stream = file or sys.stdout
    console = Console(file=stream, highlight=False)
    if not console.is_terminal:
        print(summary_text(facts), file=stream)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in summary_rows(facts):
        # Text, not a string: rich would read square brackets in a path as markup.
        table.add_row(Text(label), Text(text))
    console.print(table)
