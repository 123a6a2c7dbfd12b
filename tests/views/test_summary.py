import io
from dataclasses import fields

from tfrecipes.views.summary import Summary, print_summary, summary_rows, summary_text

FULL = Summary(
    model="digits",
    trainable_parameters=31786,
    frozen_parameters=96,
    steps_per_epoch=23,
    epochs=10,
    total_steps=230,
    batch_size=64,
    micro_batches=2,
    schedule="warmup_cosine",
    peak_learning_rate=4e-3,
    warmup_steps=12,
    end_learning_rate=1e-5,
    precision="float32",
    precision_reason="A CPU has no fast 16-bit arithmetic.",
    optimizer="adamw",
    weight_decay=0.05,
    decayed_weights=4,
    excluded_weights=10,
    clip=1.0,
    loss="sparse_categorical_crossentropy, inferred",
    label_smoothing="0.1, in training only",
    average="EMA, decay 0.999",
    devices="CPU:0",
    xla="off",
    xla_reason="the model has convolutions",
    directory="runs/[digits]-1",
    notes=("`best` is off: there are no validation data.", "Seed 0."),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_every_fact_is_said() -> None:
    assert summary_text(FULL).splitlines() == [
        "Model       digits, 31,786 trainable parameters, 96 frozen",
        "Steps       23 an epoch x 10 = 230",
        "Batch       64 samples a step, 2 micro-batches",
        "Schedule    warmup_cosine, peak 0.004, 12 warmup steps, end 1e-05",
        "Precision   float32 (A CPU has no fast 16-bit arithmetic)",
        "Optimizer   adamw, weight decay 0.05, 4 weights decayed, 10 excluded",
        "Clip        global norm 1",
        "Loss        sparse_categorical_crossentropy, inferred",
        "Smoothing   0.1, in training only",
        "Average     EMA, decay 0.999",
        "Devices     CPU:0",
        "XLA         off (the model has convolutions)",
        "Run folder  runs/[digits]-1",
        "Note        `best` is off: there are no validation data.",
        "Note        Seed 0.",
    ]


def test_a_fact_that_is_none_leaves_its_row_out() -> None:
    assert summary_text(Summary()) == ""
    assert summary_text(Summary(total_steps=1000)) == "Steps       1,000"
    assert summary_text(Summary(steps_per_epoch=5, epochs=2)) == "Steps       5 an epoch, 2 epochs"
    assert summary_text(Summary(batch_size=8, micro_batches=1)) == "Batch       8 samples a step"


def test_each_field_alone_is_shown_somewhere() -> None:
    for field in fields(Summary):
        value = getattr(FULL, field.name)
        # A reason needs what it is the reason of; micro-batches are parts of a batch.
        beside = {"precision_reason": {"precision": "p"}, "xla_reason": {"xla": "x"}}.get(
            field.name, {}
        )
        assert summary_rows(Summary(**beside, **{field.name: value})), field.name


def test_a_pipe_gets_plain_lines() -> None:
    pipe = io.StringIO()
    print_summary(FULL, file=pipe)
    assert pipe.getvalue() == summary_text(FULL) + "\n"


def test_a_terminal_gets_a_table_with_the_same_words_and_brackets_kept(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    print_summary(FULL, file=terminal)
    text = terminal.getvalue()
    assert "\x1b[" in text
    assert "runs/[digits]-1" in text
    for label, _ in summary_rows(FULL):
        assert label in text
