"""docs/monitoring.md: every example runs as it stands, one after the other in one process."""

from tests.pages import blocks, page, run

EXAMPLES = blocks(page("docs/monitoring.md"), "python")


def test_every_example_runs(tmp_path):
    # One process: importing TensorFlow five times would take longer than all of them.
    run(tmp_path, "-c", "\n".join(EXAMPLES))
    assert len(EXAMPLES) >= 5
    assert (tmp_path / "runs" / "mine" / "facts.json").exists()
