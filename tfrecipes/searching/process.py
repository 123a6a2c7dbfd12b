"""One process of a search with several: Keras Tuner's chief, or one of its workers.

    python -m tfrecipes.searching.process FOLDER

Started by `workers.py`, with KERASTUNER_* in its environment.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from tfrecipes.searching.building import Source, from_target
from tfrecipes.searching.files import SearchFolder
from tfrecipes.searching.plan import Plan
from tfrecipes.searching.tuner import quiet

BAD_INPUT = 2
# What a training that was told to end may take for its checkpoint [s].
_GRACE = 30.0


def main(path: str) -> int:
    """Takes part in the search of a folder until it is over.

    Returns:
        The exit code: 0, or 2 for input that cannot be used, its sentence on the last line.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder = SearchFolder(path)
    words = (folder.settings() or {})["source"]
    plan = Plan.read(folder)
    try:
        if os.environ["KERASTUNER_TUNER_ID"] == "chief":
            source = Source(_never, False, None, None)
        else:
            data = None if words["data"] is None else Path(words["data"])
            source = from_target(words["target"], data, plan.space.start)
        tuner = plan.tuner(source, told=lambda record: None)
        with quiet():
            tuner.search(verbose=0)
    except ValueError as error:
        print(error, flush=True)
        return BAD_INPUT
    return 0


def _never(hp: object) -> NoReturn:
    raise RuntimeError("search: the chief builds no model")


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone: its end of the pipe closes."""
    # Not sys.stdin: an interpreter that ends while a thread holds its lock aborts.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
