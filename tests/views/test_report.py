import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.views.runs import full_run
from tfrecipes.doctor.rules import Finding
from tfrecipes.runs.atomic import RunWriteError
from tfrecipes.runs.folder import Run, RunFolder, read_run
from tfrecipes.views.findings import all_findings
from tfrecipes.views.report import report_html, verdict, write_report

HOSTILE = "<script>alert('x')</script>"
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags close, and collects them with their attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "digits-1"
    with RunFolder.open(path) as run:
        run.write_recipe('name = "default"  # <b>\n')
        run.write_environment(devices=["CPU:0"])
        with run.open_steps() as steps:
            table = np.array([[i, 2.3 * 0.99**i, 1e-3, 1.0] for i in range(230)])
            steps.append(["step", "loss", "learning_rate", "grad_norm"], table)
        for epoch in range(10):
            run.append_epoch(
                {
                    "loss": 2.3 * 0.8**epoch,
                    "val_loss": 2.4 * 0.9**epoch,
                    "val_accuracy": 0.9 + epoch / 200,
                }
            )
        run.write_state("finished", epochs=10, exit_code=0)
    return path


def read(path: Path) -> Page:
    return Page(write_report(path).read_text())


def test_the_verdict_comes_first_and_everything_is_there(folder: Path) -> None:
    page = Page(write_report(folder, findings=[]).read_text())
    text = page.text
    assert text.index("The run finished; no problem was found.") < text.index("Curves")
    assert "10 epochs and 230 steps recorded." in text
    assert "val_accuracy 0.945 in epoch 10, the best." in text
    assert 'name = "default" # <b>' in text
    assert "CPU:0" in text
    assert [tag for tag, _ in page.tags].count("svg") >= 1
    rows = [tag for tag, _ in page.tags].count("tr")
    assert rows >= 11


def test_the_file_needs_nothing_from_anywhere(folder: Path) -> None:
    text = write_report(folder).read_text()
    page = Page(text)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    metas = [attrs for tag, attrs in page.tags if tag == "meta"]
    assert {"http-equiv": "Content-Security-Policy", "content": policy} in metas
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    assert "prefers-color-scheme: dark" in text
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "img", "object", "base"}
    for tag, attrs in page.tags:
        for name, value in attrs.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src", "xlink:href"):
                assert (value or "").startswith("#"), (tag, name, value)
    assert not re.search(r"@import|url\((?!#|\"#|'#)", text)


def test_a_killed_runs_folder_gets_a_report(folder: Path) -> None:
    (folder / "state.json").write_text('{"status": "running", "epochs": 3}')
    with (folder / "steps.csv").open("a") as file:
        file.write("230,0.0")
    assert "The run is still going, or was killed" in read(folder).text


def test_a_folder_with_only_steps_gets_a_report(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text("step,loss\n0,2.0\n1,1.5\n")
    text = read(tmp_path).text
    assert "How the run ended is not recorded; no problem was found." in text
    assert "2 steps recorded." in text
    assert "loss 1.5 in the last step." in text


@pytest.mark.parametrize("content", ["", "step,loss\n"])
def test_a_run_killed_before_its_first_step_gets_a_report(tmp_path: Path, content: str) -> None:
    (tmp_path / "steps.csv").write_text(content)
    text = read(tmp_path).text
    assert "Nothing was recorded." in text
    assert "Nothing was recorded that could be drawn." in text


def test_a_run_that_was_never_finite_gets_a_report(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text("step,loss\n0,nan\n1,nan\n")
    (tmp_path / "epochs.csv").write_text("loss,val_loss\nnan,\n")
    text = read(tmp_path).text
    assert "1 error." in text
    assert "Loss or gradients were not finite" in text


def test_findings_are_found_when_none_are_given_and_stored_ones_join(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path) as run:
        for value in (2.3, 2.0, 4.0, 9.0, 30.0):
            run.append_epoch({"loss": value})
        run.write_findings([{"rule": "swa", "severity": "info", "evidence": "swa_val_loss 0.3"}])
        run.write_state("stopped", epochs=5, exit_code=4, reason="25 steps in a row.")
    text = read(tmp_path).text
    assert "The run was stopped before its end; 1 error." in text
    assert "Reason: 25 steps in a row." in text
    assert text.index("The training loss went from") < text.index("swa_val_loss 0.3")


def test_findings_that_are_given_are_the_ones_shown(folder: Path) -> None:
    finding = Finding("mine", "warning", "Seen.", "Because.", "Do this.")
    text = Page(write_report(folder, [finding, finding]).read_text()).text
    assert "2 warnings." in text
    assert "Seen. Likely cause Because. What to do Do this." in text


def test_text_of_the_run_is_escaped_everywhere(tmp_path: Path) -> None:
    path = tmp_path / f"a{HOSTILE.replace('/', '')}"
    with RunFolder.open(path) as run:
        run.write_recipe(f"name = '''{HOSTILE}'''\n# {HOSTILE}\n")
        run.write_environment(devices=[HOSTILE], **{HOSTILE: {HOSTILE: HOSTILE}})
        run.append_epoch({HOSTILE: 1.0, "loss": 1.0})
        run.append_epoch({HOSTILE: 1.0, "loss": 0.5})
        keys = ("rule", "severity", "evidence", "cause", "advice")
        run.write_findings([dict.fromkeys(keys, HOSTILE)])
        run.write_state("stopped", epochs=1, reason=HOSTILE)
        (path / "steps.csv").write_text("step,<script>\n0,1\n1,2\n")
    page = read(path)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(HOSTILE) >= 8


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text("step,loss\n0,2.0\n")
    (tmp_path / "recipe.toml").write_text("= =")
    text = read(tmp_path).text
    assert "What could not be read" in text
    assert "recipe.toml could not be read" in text


def test_a_report_is_written_whole_or_not_at_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = write_report(folder).read_bytes()

    def full(descriptor: int, data: memoryview) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(RunWriteError, match=r"report\.html: could not be written"):
        write_report(folder)
    monkeypatch.undo()
    assert (folder / "report.html").read_bytes() == old


def test_what_is_no_run_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no file of a run"):
        write_report(tmp_path)


def test_the_best_epoch_is_named_where_it_is_not_the_last() -> None:
    run = Run(epochs={"val_loss": np.array([1.0, 0.5, 0.75]), "loss": np.array([3.0, 2.0, np.nan])})
    assert verdict(run, []).sentences == (
        "3 epochs recorded.",
        "val_loss 0.75 in epoch 3; best 0.5 in epoch 2.",
        "loss 2 in epoch 2, the best.",
    )


def test_epochs_of_unequal_length_are_a_table() -> None:
    run = Run(epochs={"loss": np.array([2.0, 1.0]), "swa_val_loss": np.array([0.5])})
    Page(report_html(run, []))


def test_a_finding_is_numbered_and_leads_to_its_mark_and_back() -> None:
    run = full_run()
    text = report_html(run, run.findings)
    page = Page(text)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for number in range(1, len(run.findings) + 1):
        assert {f"finding-{number}", f"finding-{number}-text"} <= set(ids)
    links = [v[1:] for _, attrs in page.tags for k, v in attrs.items() if k.endswith("href") and v]
    assert set(links) <= set(ids)
    assert "See it on the curve: Gradient norm, step 610" in page.text
    assert "See it on the curve: Loss, epochs 5 to 10" in page.text
    assert "See it on the curve: Gradient norm, the whole run" in page.text


def test_a_report_shows_every_panel_and_the_run_in_words() -> None:
    page = Page(report_html(full_run(), []))
    figures = [attrs["id"] for tag, attrs in page.tags if tag == "figure"]
    assert figures == [
        f"plot-{key}"
        for key in (
            *("loss", "metric-1", "rate", "norm", "ratio", "layers", "layer-norms", "scale"),
            *("speed", "waits", "memory", "own-1"),
        )
    ]
    assert [tag for tag, _ in page.tags].count("svg") == len(figures)
    assert "AdamW, weight decay 0.05, clipped at global norm 1" in page.text
    assert "step 612, first in block3/conv2/kernel" in page.text


def test_a_recipes_reasons_are_told_apart_from_its_values() -> None:
    run = Run(recipe_text='a = "x # y"  # why\n# [swa] is off\nb = "open\n')
    page = Page(report_html(run, []))
    reasons = [
        page.words[i + 1].strip() for i, word in enumerate(page.words) if word.endswith('y"  ')
    ]
    assert reasons == ["# why"]
    assert 'a = "x # y"' in page.text
    assert 'b = "open' in page.text


def test_words_in_backticks_are_code_and_still_escaped() -> None:
    finding = dict.fromkeys(("rule", "severity", "evidence", "cause"), "x")
    advice = f"Run `tfrecipes check {HOSTILE}` and ` alone."
    text = report_html(Run(), [{**finding, "advice": advice}])
    assert "<code>tfrecipes check &lt;script&gt;" in text
    assert "and ` alone." in text
    assert "<script" not in text


def test_what_a_rule_of_ours_said_earlier_is_judged_anew(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path) as run:
        for i in range(8):
            run.append_epoch({"loss": 2.0 * 0.5**i})
        old = {"severity": "error", "evidence": "Old.", "cause": "", "advice": ""}
        run.write_findings([old | {"rule": "diverged"}, old | {"rule": "theirs"}])
    rules = [finding["rule"] for finding in all_findings(read_run(tmp_path))]
    assert "theirs" in rules
    assert "diverged" not in rules


def test_findings_that_somebody_edited_do_not_stop_the_report():
    odd = [{"rule": ["x"], "severity": {"a": 1}, "evidence": 7}, {}]
    run = replace(full_run(), findings=odd)
    assert all_findings(run)[-2:] == odd
    assert "7" in report_html(run, all_findings(run))


@pytest.mark.parametrize("steps", [1, 2, 200_000])
def test_a_report_stays_small_and_quick_whatever_was_recorded(steps: int) -> None:
    run = full_run(steps=steps, epochs=min(steps, 5_000), layers=300)
    for i in range(300):
        run.epochs[f"metric {i} " + "m" * 400] = np.arange(float(min(steps, 5_000)))
    finding = {"rule": "r", "severity": "info", "evidence": "e" * 10_000, "cause": "", "advice": ""}
    big = replace(
        run,
        recipe_text="# long\n" * 100_000,
        environment={str(i): "v" * 9_999 for i in range(2_000)},
        problems=("p" * 10_000,),
    )
    text = report_html(big, [finding] * 500)
    Page(text)
    assert len(text.encode()) < 2_000_000
    assert "And 440 more in findings.json." in text
    assert "The rest is in recipe.toml." in text
    assert "of 306 columns are shown" in text


def test_a_folder_that_a_monitor_alone_wrote_gets_a_report(tmp_path: Path) -> None:
    run = full_run(steps=100, epochs=2, layers=2)
    with RunFolder.open(tmp_path) as folder:
        folder.write_facts(run.facts)
        for name, table in (("steps", run.steps), ("system", run.system), ("layers", run.layers)):
            with getattr(folder, f"open_{name}")() as file:
                file.append(list(table), np.stack(list(table.values()), axis=1))
    text = read(tmp_path).text
    assert "How the run ended is not recorded" in text
    assert "Throughput" in text
    assert "Update ratio by layer" in text
    assert "128 samples a step" in text
