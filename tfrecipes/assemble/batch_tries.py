"""The tries of `find_batch_size`: which sizes, each in a child, shown as they go."""

from pathlib import Path
from time import monotonic

from tfrecipes.assemble.batch_trial import Way
from tfrecipes.assemble.batch_wanted import Wanted
from tfrecipes.doctor.sampled import Sampled
from tfrecipes.tuning import batch_children, batch_folder
from tfrecipes.tuning.batch_children import in_words
from tfrecipes.tuning.batch_search import Tried, largest_that_fits
from tfrecipes.views.live import Display, Moment

# The module whose `train` a child calls.
WORK = "tfrecipes.assemble.batch_trial"


class _Try(Moment):
    """A try is counted, and nobody knows how many there will be."""

    @property
    def count(self) -> str:
        return f"try {self.step}"


def try_sizes(
    folder: Path,
    way: Way,
    sample: Sampled,
    wanted: Wanted,
    limit: int | None,
    on_gpu: bool,
    display: Display | None,
) -> list[Tried]:
    """Try sizes in children, and show how it goes.

    Args:
        folder: What each child is given.
        way: How the model is compiled.
        sample: The data.
        wanted: The caller's bounds.
        limit: Of memory [bytes]; None = the GPU's own.
        on_gpu: Whether the limit is one of the GPU, which a child keeps by itself.
        display: Where it is shown.
    """
    environment = batch_folder.environment_of_child()
    most = wanted.largest
    if sample.kind == "arrays":
        most = sample.rows if most is None else min(most, sample.rows)
    done: list[Tried] = []
    shown = Now(display)

    def attempt(size: int) -> Tried:
        tried = batch_children.attempt(
            WORK,
            folder,
            size,
            limit=None if on_gpu else limit,
            seconds=wanted.try_seconds,
            environment=environment,
            tick=lambda peak: shown(
                _Try(f"micro-batch {size}", len(done) + 1, None, (in_words(peak),))
            ),
        )
        done.append(tried)
        if display is not None:
            display.line(_line(tried))
        return tried

    first = min(wanted.start or way.batch_size, most or way.batch_size)
    return largest_that_fits(attempt, start=first, largest=most, limit=limit)


def _line(tried: Tried) -> str:
    peak = "" if tried.peak is None else f"  {in_words(tried.peak)}"
    end = f"fits{peak}" if tried.fits else f"does not fit: {tried.why}"
    return f"micro-batch {tried.size}  {end}  {tried.seconds:.1f} s"


class Now:
    """Shows a moment, not more often than the display wants."""

    def __init__(self, display: Display | None) -> None:
        # A line of a pipe stays: what is over in a moment needs none.
        self._next = monotonic() + (display.interval if display is not None else 0.0)
        self._display = display

    def __call__(self, moment: Moment) -> None:
        now = monotonic()
        if self._display is not None and now >= self._next:
            self._next = now + self._display.interval
            self._display.show(moment)


def nothing_fits(tries: list[Tried], limit: int | None) -> ValueError:
    """What to raise where no try fitted."""
    last = tries[-1]
    room = "the GPU" if limit is None else in_words(limit)
    return ValueError(
        f"find_batch_size: not even a micro-batch of {last.size} fits into {room}. Received: "
        f"{last.why}. Give more `memory`, or make the model smaller."
    )
