"""Which weights decay: ordered rules over a weight's path, dimensions and owning layer.

`exclude` is a sequence of rules; the first that matches a weight decides, and a weight that none
matches decays. The optimizers judge once, at build, and keep the verdicts. No TensorFlow here.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

WORDS = ("bias", "norm", "prelu", "ndim<2", "embedding")
DEFAULT_EXCLUDE = ("bias", "norm", "prelu", "ndim<2")

# Keras's layers that normalise and own what they scale and shift by. SpectralNormalization is not
# one: it wraps a layer, and the kernel that it can reach is that layer's and decays.
# UnitNormalization owns no weight; a subclass of it may.
NORM_CLASSES = frozenset(
    {
        "BatchNormalization",
        "GroupNormalization",
        "LayerNormalization",
        "RMSNormalization",
        "UnitNormalization",
    }
)


class Weight(NamedTuple):
    """What a rule may look at.

    Args:
        path: The variable's path, such as `block/dense/kernel`.
        ndim: Number of its dimensions. >= 0.
        owners: Class names of the owning layer, the most derived first, up to and without
            `keras.layers.Layer`; None if the owner is unknown.
    """

    path: str
    ndim: int
    owners: tuple[str, ...] | None


class Decision(NamedTuple):
    """One weight's verdict: whether it decays, and by which rule ("": no rule matched)."""

    path: str
    decayed: bool
    rule: str


def _by_class(names: frozenset[str], last_parts: frozenset[str]) -> Callable[[Weight], bool]:
    """Match the owner's class, and only where no owner is known the last part of the path."""

    def matches(weight: Weight) -> bool:
        if weight.owners is None:
            return _last_part(weight) in last_parts
        return not names.isdisjoint(weight.owners)

    return matches


def _last_part(weight: Weight) -> str:
    return weight.path.rsplit("/", 1)[-1]


_WORDS: dict[str, Callable[[Weight], bool]] = {
    "bias": lambda weight: _last_part(weight) == "bias",
    "norm": _by_class(NORM_CLASSES, frozenset({"gamma", "beta", "scale"})),
    "prelu": _by_class(frozenset({"PReLU"}), frozenset({"alpha"})),
    "ndim<2": lambda weight: weight.ndim < 2,
    "embedding": _by_class(frozenset({"Embedding"}), frozenset({"embeddings"})),
}


def _matcher(rule: str) -> Callable[[Weight], bool]:
    body = rule.removeprefix("!")
    if body in _WORDS:
        return _WORDS[body]
    if body.startswith("type:"):
        name = body.removeprefix("type:")
        return lambda weight: weight.owners is not None and name in weight.owners
    pattern = re.compile(body)
    return lambda weight: pattern.search(weight.path) is not None


def check_rules(exclude: Sequence[str] | None) -> tuple[str, ...]:
    """Return `exclude` as a tuple of rules, each of which can be read.

    Args:
        exclude: The rules; None for none.

    Returns:
        The rules, unchanged and in their order.

    Raises:
        ValueError: If `exclude` is no list or tuple of strings, or a rule is empty or is neither a
            word, nor `type:` with a class name, nor a regular expression.

    Example:
        >>> check_rules(["bias", "!head/.*"])
        ('bias', '!head/.*')
    """
    if exclude is None:
        return ()
    advice = f"Use the words {', '.join(WORDS)}, type:<layer class>, or a regex on the path."
    received = f"Received: exclude={exclude!r}."
    if not isinstance(exclude, list | tuple):
        raise ValueError(f"exclude: must be a list or tuple of rules. {received} {advice}")
    for rule in exclude:
        if not isinstance(rule, str) or rule in ("", "!", "type:", "!type:"):
            raise ValueError(
                f"exclude: every rule must be a string that names something, {rule!r} does not. "
                f"{received} {advice}"
            )
        try:
            _matcher(rule)
        except re.error as error:
            raise ValueError(
                f"exclude: {rule!r} is no regular expression ({error}). {received} {advice}"
            ) from error
    return tuple(exclude)


def decide(
    exclude: Sequence[str] | None, weights: Sequence[Weight], *, must_match: bool = True
) -> list[Decision]:
    """Say of every weight whether it decays, and by which rule.

        decayed(w) = rule(w) is absent or begins with "!"
        rule(w)    = the first rule of `exclude` that matches w

    A rule is a word, `type:Dense` for a layer class or a subclass of it, or else a regular
    expression that is searched for in the path. A leading `!` keeps the decay of what it matches.

        "bias"       the last part of the path is `bias`
        "norm"       the owner is a normalisation layer; owner unknown: gamma, beta or scale
        "prelu"      the owner is a PReLU; owner unknown: alpha
        "ndim<2"     fewer than two dimensions
        "embedding"  the owner is an Embedding; owner unknown: embeddings

    No word looks at a layer's name: the kernel of a Dense layer called "batch_norm" decays.

    Args:
        exclude: The rules, in order; None for none.
        weights: The weights to judge.
        must_match: Whether a regular expression or a type that matches no weight is an error. A
            word never is: that a model has no PReLU is nobody's typing mistake.

    Returns:
        One `Decision` per weight, in the order of `weights`.

    Raises:
        ValueError: If a rule cannot be read, or `must_match` and one matches nothing.

    Example:
        >>> kernel = Weight("dense/kernel", 2, ("Dense",))
        >>> gamma = Weight("bn/gamma", 1, ("BatchNormalization",))
        >>> decide(["norm"], [kernel, gamma])[1]
        Decision(path='bn/gamma', decayed=False, rule='norm')
    """
    rules = [(rule, _matcher(rule)) for rule in check_rules(exclude)]
    if must_match and weights:
        for rule, matches in rules:
            if rule.removeprefix("!") not in _WORDS and not any(map(matches, weights)):
                raise ValueError(_matches_nothing(rule, weights))
    decisions = []
    for weight in weights:
        rule = next((rule for rule, matches in rules if matches(weight)), "")
        decisions.append(Decision(weight.path, decays(rule), rule))
    return decisions


def decays(rule: str) -> bool:
    """Whether a weight whose first matching rule is `rule` decays ("": none matched)."""
    return rule == "" or rule.startswith("!")


def decide_again(
    exclude: Sequence[str] | None,
    weights: Sequence[Weight],
    saved: Mapping[str, str],
    *,
    must_match: bool = True,
) -> list[Decision]:
    """`decide`, but a weight that `saved` names keeps the rule that it had.

    A model that is loaded may have other paths than when it was saved: Keras numbers layers that
    have no name of their own anew (`dense_7` is `dense` in a new process), and puts the layer in a
    wrapper under another name (`wrapper/inner/kernel`, then `inner/kernel`). Where all paths are
    the old ones in order but for that, the old rules hold in order.

    Args:
        exclude: The rules, for the weights that `saved` does not name.
        weights: The weights to judge.
        saved: What `mask` returned for the weights of an earlier build, in its order.
        must_match: As in `decide`; where `saved` answers for every weight no rule has to match.

    Returns:
        One `Decision` per weight, in the order of `weights`.

    Raises:
        ValueError: As `decide`.

    Example:
        >>> weights = [Weight("dense/kernel", 2, None), Weight("head/kernel", 2, None)]
        >>> [d.rule for d in decide_again(["head"], weights, {"dense/kernel": "kernel"})]
        ['kernel', 'head']
    """
    keys = _keys([weight.path for weight in weights])
    if any(key not in saved for key in keys) and _same_model(keys, list(saved)):
        saved = dict(zip(keys, saved.values(), strict=True))
    unknown = any(key not in saved for key in keys)
    fresh = decide(exclude, weights, must_match=must_match and unknown)
    rules = [saved.get(key, new.rule) for key, new in zip(keys, fresh, strict=True)]
    return [Decision(w.path, decays(rule), rule) for w, rule in zip(weights, rules, strict=True)]


def _same_model(keys: Sequence[str], saved: Sequence[str]) -> bool:
    """Whether two lists of paths differ at most by Keras's numbers and by outer names."""

    def alike(one: str, other: str) -> bool:
        parts = [[re.sub(r"_\d+$", "", part) for part in path.split("/")] for path in (one, other)]
        length = min(map(len, parts))
        return parts[0][-length:] == parts[1][-length:]

    return len(keys) == len(saved) and all(map(alike, keys, saved))


def mask(decisions: Sequence[Decision]) -> dict[str, str]:
    """The verdicts as path -> rule, for a config ("": no rule matched, so the weight decays).

    Paths need not be unique in Keras: the second weight of one path is called `path#2`.
    """
    keys = _keys([decision.path for decision in decisions])
    return {key: decision.rule for key, decision in zip(keys, decisions, strict=True)}


def _keys(paths: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    keys = []
    for path in paths:
        seen[path] += 1
        keys.append(path if seen[path] == 1 else f"{path}#{seen[path]}")
    return keys


def _matches_nothing(rule: str, weights: Sequence[Weight]) -> str:
    paths = ", ".join(weight.path for weight in weights[:3])
    message = (
        f"Decay rule {rule!r} matches none of the {len(weights)} weights. First paths: {paths}."
    )
    if rule.removeprefix("!").startswith("type:"):
        classes = dict.fromkeys(weight.owners[0] for weight in weights if weight.owners)
        message += f" Layer classes: {', '.join(classes) or 'none is known'}."
    return message


@dataclass(frozen=True)
class Report:
    """A table of every weight, whether it decays and by which rule; `print` it.

    Args:
        title: What decides, such as `AdamW, weight_decay=0.05`.
        decisions: The trained weights' verdicts.
        not_trained: Paths of the weights that no optimizer updates, and so none decays.

    Example:
        >>> print(Report("AdamW, weight_decay=0.05", (Decision("dense/kernel", True, ""),)))
        AdamW, weight_decay=0.05: 1 of 1 trained weights decay, 0 do not
        weight        decays  rule
        dense/kernel  yes     no rule matches
    """

    title: str
    decisions: tuple[Decision, ...]
    not_trained: tuple[str, ...] = ()

    def __str__(self) -> str:
        excluded = [decision.rule for decision in self.decisions if not decision.decayed]
        counts = ", ".join(f"{rule} {count}" for rule, count in Counter(excluded).items())
        trained = len(self.decisions)
        head = (
            f"{self.title}: {trained - len(excluded)} of {trained} trained weights decay, "
            f"{len(excluded)} do not" + (f" ({counts})" if counts else "")
        )
        rows = [("weight", "decays", "rule")]
        rows += [
            (path, "yes" if decayed else "no", rule or "no rule matches")
            for path, decayed, rule in self.decisions
        ]
        rows += [(path, "no", "not trained") for path in self.not_trained]
        width = max(len(path) for path, _, _ in rows)
        lines = [f"{path:<{width}}  {decayed:<6}  {rule}" for path, decayed, rule in rows]
        return "\n".join([head, *lines])
