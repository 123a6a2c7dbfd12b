"""docs/batch_size.md: its example runs as it stands, as a script."""

from tests.pages import blocks, page, run


def test_the_example_runs(tmp_path):
    (example,) = blocks(page("docs/batch_size.md"), "python")
    script = tmp_path / "example.py"
    script.write_text(example)
    said = run(tmp_path, str(script))
    assert "Micro-batch     64 is the largest that fits into 4 GB" in said
    assert "What to do      " in said
