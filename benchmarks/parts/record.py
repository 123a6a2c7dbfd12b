"""What a benchmark leaves: one JSON file with its numbers, its command and its machine."""

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfrecipes.runs.environment import collect_environment

RESULTS = Path(__file__).resolve().parents[1] / "results"


def write(name: str, command: str, results: dict[str, Any], path: Path | None = None) -> Path:
    """Write a benchmark's results, by default where the documentation reads them.

    Args:
        name: The benchmark's.
        command: What makes these numbers again.
        results: JSON-able.
        path: Another file, for a run that is no measurement.
    """
    path = path or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = collect_environment(["CPU"], RESULTS)
    whole = {"name": name, "command": command, "machine": machine(), **facts, "results": results}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return path


def machine() -> str:
    """The processor's name and how many cores of it this process may use."""
    names = [platform.processor() or platform.machine()]
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown'}, {len(os.sched_getaffinity(0))} cores"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, least and largest."""
    return {"mean": sum(values) / len(values), "min": min(values), "max": max(values)}


class Busy:
    """How many cores other processes kept busy while a block ran, from /proc/stat.

    The load average would count our own threads too.
    """

    def __enter__(self) -> "Busy":
        """Start counting."""
        self._all, self._own, self._began = *_processor_seconds(), time.monotonic()
        self.others = float("nan")
        return self

    def __exit__(self, *unused: object) -> None:
        """Stop counting; `others` is the mean number of cores."""
        everybody, own = _processor_seconds()
        elapsed = max(time.monotonic() - self._began, 1e-9)
        self.others = max(0.0, (everybody - self._all) - (own - self._own)) / elapsed


def _processor_seconds() -> tuple[float, float]:
    """Seconds that all processes and this one have computed."""
    own = sum(os.times()[:2])
    stat = Path("/proc/stat")
    if not stat.exists():
        return own, own
    user, nice, system = map(float, stat.read_text(encoding="ascii").split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK"), own


def interleaved(
    first: Callable[[], float], second: Callable[[], float], pairs: int
) -> dict[str, Any]:
    """Time two things in turn, so that a machine that slows down slows both.

    Args:
        first: Runs the thing and returns its seconds.
        second: What it is compared with.
        pairs: How often.

    Returns:
        Each pair's seconds, the ratios first / second, and the cores that others kept busy.
    """
    rows = []
    with Busy() as busy:
        for number in range(pairs):
            # Who comes first changes, so that neither always runs on a warmer machine.
            if number % 2:
                later = second()
                rows.append((first(), later))
            else:
                rows.append((first(), second()))
    ratios = sorted(a / b for a, b in rows)
    return {
        "seconds": rows,
        "ratio": {"median": ratios[len(ratios) // 2], "min": ratios[0], "max": ratios[-1]},
        "cores_busy_with_others": busy.others,
    }
