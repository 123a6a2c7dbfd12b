"""What one update of 12 million parameters in 74 tensors costs, beside Keras's and torch's.

    python benchmarks/update_cost.py            # about a minute; torch's rows need the extra bench
    python benchmarks/update_cost.py --quick    # that it runs; its numbers mean nothing

Every row decays, clips at the global norm and updates in float32. Ours besides decides whether
the update is finite, and then updates or leaves all as it was. The rows are timed in turn, round
by round, and compared within a round.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from parts import record

import tfrecipes as tfr

NAME = "update_cost"
CLIP = 1.0
ARGUMENTS = {"learning_rate": 1e-4, "weight_decay": 0.05}


def shapes(width: int = 288, depth: int = 12, alphabet: int = 800) -> list[tuple[int, ...]]:
    """The weights of a transformer without biases."""
    block = [(width,), (width, 3 * width), (width, width)]
    block += [(width,), (width, 4 * width), (4 * width, width)]
    return [(alphabet, width), *block * depth, (width,)]


def by_keras(
    kind: type[keras.optimizers.Optimizer], sizes: list[tuple[int, ...]], xla: bool
) -> Callable[[], Any]:
    """`optimizer.apply` as one compiled function."""
    rng = np.random.default_rng(0)
    weights = [keras.Variable(rng.normal(size=s).astype("float32")) for s in sizes]
    gradients = [tf.Variable(rng.normal(size=s).astype("float32")) for s in sizes]
    optimizer = kind(**ARGUMENTS, global_clipnorm=CLIP)
    optimizer.build(weights)

    @tf.function(jit_compile=xla)
    def update() -> None:
        optimizer.apply([g.read_value() for g in gradients], weights)

    def once() -> None:
        update()
        weights[-1].numpy()  # waits until it is done

    return once


def by_torch(sizes: list[tuple[int, ...]]) -> Callable[[], Any]:
    """torch's fused AdamW behind its clip."""
    import torch

    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(s)) for s in sizes]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    optimizer = torch.optim.AdamW(
        weights, lr=ARGUMENTS["learning_rate"], weight_decay=0.05, fused=True
    )

    def once() -> None:
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()

    return once


def ways(sizes: list[tuple[int, ...]]) -> dict[str, Callable[[], Any]]:
    """Name to what is timed; torch's only where it is installed."""
    found = {
        "tfr.AdamW, graph": by_keras(tfr.AdamW, sizes, xla=False),
        "tfr.AdamW, XLA": by_keras(tfr.AdamW, sizes, xla=True),
        "keras AdamW, graph": by_keras(keras.optimizers.AdamW, sizes, xla=False),
        "keras AdamW, XLA": by_keras(keras.optimizers.AdamW, sizes, xla=True),
    }
    try:
        found["torch AdamW, fused"] = by_torch(sizes)
    except ImportError as error:
        print(f"update_cost: without torch's row. {error}. Install the extra `bench`.")
    return found


def measure(sizes: list[tuple[int, ...]], rounds: int) -> dict[str, Any]:
    """Median milliseconds of each way, and the medians of its ratios to the others' rounds."""
    timed = ways(sizes)
    for once in timed.values():
        once()
        once()
    names = list(timed)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with record.Busy() as busy:
        for number in range(rounds):
            # Another one begins each round, so that nobody always follows the same neighbour.
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                began = time.perf_counter()
                timed[name]()
                seconds[name].append(time.perf_counter() - began)
    reference = "torch AdamW, fused" if "torch AdamW, fused" in timed else "keras AdamW, XLA"
    rows = {}
    for name in names:
        pairs = zip(seconds[name], seconds[reference], strict=True)
        ratios = sorted(a / b for a, b in pairs)
        rows[name] = {
            "median_ms": 1e3 * float(np.median(seconds[name])),
            "min_ms": 1e3 * min(seconds[name]),
            "ratio": float(np.median(ratios)),
        }
    return {
        "parameters": int(sum(np.prod(s) for s in sizes)),
        "tensors": len(sizes),
        "rounds": rounds,
        "reference": reference,
        "rows": rows,
        "cores_busy_with_others": busy.others,
    }


def table(results: dict[str, Any]) -> str:
    """The results as lines of text."""
    lines = [
        f"{results['parameters']:,} parameters in {results['tensors']} tensors; "
        f"{results['cores_busy_with_others']:.1f} cores busy with others",
        f"{'':20s} median ms   min ms   / {results['reference']}",
    ]
    for name, row in results["rows"].items():
        lines.append(
            f"{name:20s} {row['median_ms']:9.2f} {row['min_ms']:8.2f}   {row['ratio']:.2f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small tensors, two rounds")
    parser.add_argument("--rounds", type=int, default=60, help="how many timings of each")
    parser.add_argument("--out", type=Path, help="another file for the JSON")
    given = parser.parse_args(arguments)
    sizes = shapes(8, 1, 8) if given.quick else shapes()
    results = measure(sizes, 2 if given.quick else given.rounds)
    print(table(results))
    if not given.quick or given.out:
        command = f"python benchmarks/{NAME}.py" + (" --quick" if given.quick else "")
        print(record.write(NAME, command, results, given.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
