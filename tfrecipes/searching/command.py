"""`tfrecipes search`: from the words of the command line to an exit code."""

from pathlib import Path
from typing import Any

from tfrecipes.callbacks.resume import Preempted
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.runs.atomic import RunWriteError
from tfrecipes.searching.building import from_target
from tfrecipes.searching.dimensions import from_words
from tfrecipes.searching.search import searched
from tfrecipes.searching.workers import WorkersError


def run_search(
    recipe: Recipe,
    target: str | None = None,
    data: Path | None = None,
    dimensions: list[str] | None = None,
    verbose: Any = "auto",
    **arguments: Any,
) -> int:
    """Search with a target, or the demo.

    Args:
        recipe: Where the search starts.
        target: `package.module:function` or `path/file.py:function`; None = the demo.
        data: An .npz file; None = the target's or the demo's data.
        dimensions: As `from_words` reads them; none = the default space.
        verbose: 0 = print nothing.
        **arguments: trials, directory, objective, direction, method, seed, repeats, finalists and
            workers, as `tfr.search` takes them.

    Returns:
        The exit code: 0 finished, 75 stopped by a signal and resumable, 1 where the processes or
        the disk failed.

    Raises:
        ValueError: For input that cannot be used, one sentence.
    """
    space: dict[str, Any] = {}
    for words in dimensions or []:
        field, spec = from_words(words)
        if field in space:
            raise ValueError(f"--dimension: {field} is given twice. Keep one of them.")
        space[field] = spec
    try:
        searched(
            lambda recipe: from_target(target, data, recipe),
            recipe,
            {},
            {"target": target, "data": None if data is None else str(data.resolve())},
            space=space or None,
            verbose=verbose,
            **arguments,
        )
    except (KeyboardInterrupt, Preempted):
        return Preempted.CODE
    except (RunWriteError, WorkersError) as error:
        print(error)
        return 1
    return 0
