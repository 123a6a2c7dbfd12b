"""What a run's monitor learnt of model, optimizer, loss and data, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Facts = Mapping[str, Any]


def facts_rows(facts: Facts) -> list[tuple[str, str]]:
    """Label and text of everything that is known, in the order of reading.

    Every key of `facts` may be missing or, in a file that somebody edited, of another kind: what cannot be
    said is left out.

    Example:
        >>> facts_rows({"batch_size": 128, "replicas": 2, "precision": "float32"})
        [('Batch', '128 samples a step, on 2 replicas'), ('Precision', 'float32')]
    """
    rows: list[tuple[str, Callable[[Facts], str]]] = [
        ("Length", _length),
        ("Batch", _batch),
        ("Model", _model),
        ("Layers", _layers),
        ("Loss", _loss),
        ("Optimizer", _optimizer),
        ("Schedule", _schedule),
        ("Average", _average),
        ("Precision", lambda facts: _text(facts.get("precision"))),
        ("Data", lambda facts: _data(_table(facts, "data"))),
        ("Labels", lambda facts: _labels(_table(_table(facts, "data"), "labels"))),
        ("Validation", lambda facts: _data(_table(facts, "validation"))),
        ("First bad step", _first_bad),
    ]
    said = [(label, words(facts)) for label, words in rows]
    return [(label, text) for label, text in said if text]


def _table(facts: Facts, key: str) -> Facts:
    value = facts.get(key)
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> str:
    """A number as a reader likes it; nothing for what is none."""
    if not _is_number(value):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _count(value: Any, one: str, many: str | None = None) -> str:
    """ "3 layers", or nothing where there is no number."""
    if not _is_number(value):
        return ""
    return f"{_number(value)} {one if value == 1 else many or one + 's'}"


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _with(word: str, value: Any) -> str:
    number = _number(value)
    return f"{word} {number}" if number else ""


def _length(facts: Facts) -> str:
    epochs = _count(facts.get("epochs"), "epoch")
    each = _count(facts.get("steps_per_epoch"), "step")
    total = _count(facts.get("total_steps"), "step")
    return _joined(total, f"{epochs} of {each}" if epochs and each else epochs or each)


def _batch(facts: Facts) -> str:
    replicas = facts.get("replicas")
    many = _is_number(replicas) and replicas != 1
    micro = _with("cut into micro-batches of", facts.get("micro_batch"))
    samples = _count(facts.get("batch_size"), "sample")
    return _joined(
        f"{samples} a step" if samples else "",
        micro,
        f"on {_count(replicas, 'replica')}" if many else "",
    )


def _model(facts: Facts) -> str:
    frozen = facts.get("frozen_weights")
    dropout = facts.get("dropout")
    return _joined(
        _count(facts.get("parameters"), "parameter"),
        _count(facts.get("trainable_weights"), "trainable weight"),
        f"{_number(frozen)} frozen" if _is_number(frozen) and frozen else "",
        _with("dropout", dropout) if dropout else "",
    )


def _layers(facts: Facts) -> str:
    counts = _table(facts, "layers")
    return _joined(*(f"{_number(n)} {name}" for name, n in counts.items() if _number(n)))


def _loss(facts: Facts) -> str:
    loss = _table(facts, "loss")
    logits = {True: "from logits", False: "from probabilities"}
    said = loss.get("from_logits")
    activation = _text(facts.get("last_activation"))
    smoothing = loss.get("label_smoothing")
    return _joined(
        _text(loss.get("name")),
        logits[said] if isinstance(said, bool) else "",
        _with("label smoothing", smoothing) if smoothing else "",
        f"last activation {activation}" if activation else "",
        _with("classes:", facts.get("classes")),
    )


def _optimizer(facts: Facts) -> str:
    table = _table(facts, "optimizer")
    words = {"global_clipnorm": "clipped at global norm", "learning_rate": "learning rate"}
    rest = [
        _with(words.get(key, key.replace("_", " ")), value)
        for key, value in table.items()
        if key != "name" and (table.get("use_ema") is True or key != "ema_momentum")
    ]
    return _joined(_text(table.get("name")), *rest)


def _schedule(facts: Facts) -> str:
    table = _table(facts, "schedule")
    config = _table(table, "config")
    rest = [_with(key.replace("_", " "), value) for key, value in config.items()]
    return _joined(_text(table.get("name")), *rest)


def _average(facts: Facts) -> str:
    table = _table(facts, "average")
    return _joined(_text(table.get("name")), _with("decay", table.get("decay")))


def _data(data: Facts) -> str:
    inputs = data.get("inputs")
    told = inputs if isinstance(inputs, list) else []
    repeated, shared = data.get("repeated"), data.get("shared")
    return _joined(
        _count(data.get("samples"), "sample"),
        *(_input(one) for one in told if isinstance(one, Mapping)),
        f"{_number(repeated)} repeated" if repeated and _is_number(repeated) else "",
        f"{_number(shared)} of them in the training data" if shared and _is_number(shared) else "",
    )


def _input(one: Facts) -> str:
    shape = one.get("shape")
    size = " x ".join(_number(n) or "?" for n in shape) if isinstance(shape, list) else ""
    low, high = _number(one.get("min")), _number(one.get("max"))
    constant = one.get("constant_features")
    words = [
        _text(one.get("name")),
        size,
        _text(one.get("dtype")),
        f"from {low} to {high}" if low and high else "",
        f"with {_count(constant, 'constant feature')}" if constant and _is_number(constant) else "",
    ]
    return " ".join(word for word in words if word)


def _labels(labels: Facts) -> str:
    counts = labels.get("counts")
    balance = ""
    if isinstance(counts, list) and len(counts) > 1 and all(map(_is_number, counts)):
        low, high = min(counts), max(counts)
        each = _number(low)
        balance = f"{each} of each" if low == high else f"{each} to {_number(high)} of each"
    kind = _text(labels.get("kind"))
    low, high = _number(labels.get("mean")), _number(labels.get("std"))
    real = f"mean {low}, standard deviation {high}" if kind == "real" and low and high else ""
    return _joined(
        kind,
        _count(labels.get("classes"), "class", "classes"),
        balance,
        real,
        "sorted" if labels.get("sorted") is True else "",
    )


def _first_bad(facts: Facts) -> str:
    first = _table(facts, "first_bad")
    weight = _text(first.get("weight"))
    step = _with("step", first.get("step"))
    return _joined(step, f"first in {weight}" if step and weight else "")
