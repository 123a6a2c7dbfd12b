"""Which trainings are repeated with other seeds, which recipe wins, and by how much."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

START = "start"
CONFIDENCE = 0.95
# Fresh seeds that everybody gets: two give an interval that nothing can be outside of.
_FIRST = 3

Scores = Mapping[tuple[str, int], float | None]


@dataclass(frozen=True)
class Interval:
    """A mean and where it may lie, by Student's t over seeds.

        mean -+ t(n - 1) s / sqrt(n)

    Args:
        mean: Of the values.
        low: Lower end.
        high: Upper end.
        n: How many seeds.
        confidence: Of the interval.

    Example:
        >>> Interval.of([1.0, 2.0, 3.0]).n
        3
    """

    mean: float
    low: float
    high: float
    n: int
    confidence: float = CONFIDENCE

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """The interval of at least two values."""
        mean, n = statistics.fmean(values), len(values)
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * statistics.stdev(values) / n**0.5
        return cls(mean, mean - half, mean + half, n)


@dataclass(frozen=True)
class Contest:
    """The best few trials and the starting recipe, trained anew with fresh seeds.

    Everybody gets the first three; then another round, as long as the leader cannot be told from
    one of the rest, of those that are still in it. A pure function of the scores: what was
    interrupted goes on as it would have gone.

    Args:
        direction: "min" or "max".
        finalists: Names of the trials, the best score first.
        repeats: Fresh seeds at most; 0 = none.
    """

    direction: str
    finalists: tuple[str, ...]
    repeats: int

    def wanted(self, scores: Scores) -> list[tuple[str, int]]:
        """The trainings of the round that is on and not over: (name, number of the seed).

        Empty when there is nothing more to train.
        """
        for number in range(1, self.repeats + 1):
            so_far = {key: value for key, value in scores.items() if key[1] < number}
            if number <= _FIRST:
                still = self._not_crashed(so_far)
            elif self._is_settled(so_far):
                return []
            else:
                still = self._in(so_far)
            missing = [(n, number) for n in still if (n, number) not in scores]
            if missing:
                return missing
        return []

    def winner(self, scores: Scores) -> str:
        """The finalist with the best mean; the starting recipe only if it is better beyond noise."""
        if not self.repeats:
            return self.finalists[0]
        alive = [n for n in self._in(scores) if n != START]
        if not alive:
            return self.finalists[0]
        best = self._leader(alive, scores)
        gain = self.gain(best, START, scores)
        return START if gain is not None and gain.high < 0 else best

    def gain(self, name: str, other: str, scores: Scores) -> Interval | None:
        """How much better one is than another, seed by seed: above 0 is better.

        None where they share fewer than two seeds with a score.
        """
        sign = 1 if self.direction == "max" else -1
        pairs = []
        for number in range(1, self.repeats + 1):
            mine, theirs = scores.get((name, number)), scores.get((other, number))
            if mine is not None and theirs is not None:
                pairs.append(sign * (mine - theirs))
        return Interval.of(pairs) if len(pairs) > 1 else None

    def mean(self, name: str, scores: Scores) -> Interval | None:
        """Of one candidate's own scores."""
        own = [s for (n, _), s in sorted(scores.items()) if n == name and s is not None]
        return Interval.of(own) if len(own) > 1 else None

    def _in(self, scores: Scores) -> list[str]:
        """Who is still in it: no crash, and not worse than the leader beyond noise.

        The starting recipe stays: the improvement over it is what is asked for.
        """
        still = self._not_crashed(scores)
        alive = [name for name in still if name != START]
        if alive and scores:
            leader = self._leader(alive, scores)
            gains = {name: self.gain(leader, name, scores) for name in alive}
            alive = [n for n, gain in gains.items() if n == leader or gain is None or gain.low <= 0]
        return [*alive, *(name for name in still if name == START)]

    def _not_crashed(self, scores: Scores) -> list[str]:
        crashed = {name for (name, _), score in scores.items() if score is None}
        return [name for name in (*self.finalists, START) if name not in crashed]

    def _is_settled(self, scores: Scores) -> bool:
        alive = [name for name in self._in(scores) if name != START]
        if len(alive) != 1:
            return not alive
        gain = self.gain(alive[0], START, scores)
        return gain is None or gain.low > 0 or gain.high < 0

    def _leader(self, names: Sequence[str], scores: Scores) -> str:
        sign = 1 if self.direction == "min" else -1

        def mean(name: str) -> float:
            own = [s for (n, _), s in scores.items() if n == name and s is not None]
            return sign * statistics.fmean(own) if own else float("inf")

        return min(names, key=mean)
