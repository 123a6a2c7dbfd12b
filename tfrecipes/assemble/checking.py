"""`tfrecipes check`: from the words of the command line to findings, before any training."""

import json
from pathlib import Path

from tfrecipes.assemble.beginning import surroundings
from tfrecipes.assemble.command import brought
from tfrecipes.doctor.checking import check
from tfrecipes.recipe.recipe import Recipe

FOUND_ERROR = 1


def run_check(
    recipe: Recipe,
    target: str | None = None,
    data: Path | None = None,
    as_json: bool = False,
) -> int:
    """Look at a target, or the demo, before it is trained, and print what is found.

    Nothing is trained, and no file is written.

    Args:
        recipe: Whose seed, precision and devices hold while the model is made.
        target: `package.module:function` or `path/file.py:function`; None = the demo.
        data: An .npz file; None = the target's or the demo's data.
        as_json: Print a JSON list of findings instead of sentences.

    Returns:
        The exit code: 1 where a finding is an error, else 0.

    Raises:
        ValueError: For input that cannot be used, one sentence.
    """
    with surroundings(recipe):
        model, training, validation = brought(recipe, target, data)
        findings = check(model, training, validation)
    if as_json:
        print(json.dumps([finding.as_dict() for finding in findings], indent=2))
    else:
        for finding in findings:
            print(finding)
        worrying = sum(finding.severity != "info" for finding in findings)
        print(
            f"{worrying} of {len(findings)} findings to look into before training."
            if worrying
            else "Nothing stands against training."
        )
    return FOUND_ERROR if any(finding.severity == "error" for finding in findings) else 0
