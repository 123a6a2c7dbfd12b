"""The gradient noise scale and its interval, out of micro-batch gradients' inner products."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
# Fewer say nothing of how much they differ.
FEWEST = 8


@dataclass(frozen=True)
class NoiseScale:
    """How many samples a step can use before more of them tell it little that is new.

    Attributes:
        value: B_simple = tr(Sigma) / |G|^2 [samples]; inf where |G|^2 is not told from 0.
        low: Lower end of the interval [samples].
        high: Upper end; inf where |G|^2 may be 0.
        trace: tr(Sigma), the variance of one sample's gradient, estimated.
        squared_norm: |G|^2 of the true gradient, estimated without bias: it may fall below 0.
        micro_batches: How many micro-batches it was estimated from.
        size: Samples of one of them.
    """

    value: float
    low: float
    high: float
    trace: float
    squared_norm: float
    micro_batches: int
    size: int

    @property
    def is_resolved(self) -> bool:
        """Whether the interval spans less than a factor of four."""
        return math.isfinite(self.high) and self.high < 4 * max(self.low, 1e-300)


def noise_scale(products: np.ndarray, size: int, confidence: float = CONFIDENCE) -> NoiseScale:
    """Estimate the simple noise scale from m micro-batch gradients g_i of b samples each.

        B_simple = S / N,    S ~ tr(Sigma),    N ~ |G|^2
        N = (B |G_big|^2 - b |G_small|^2) / (B - b)
        S = (|G_small|^2 - |G_big|^2) / (1/b - 1/B)
        |G_small|^2 = mean_i |g_i|^2,   |G_big|^2 = |mean_i g_i|^2,   B = m b

    Both are unbiased, and N is the mean of g_i . g_j over all pairs i != j. The interval holds
    every ratio q for which S - q N is not told from 0 (Fieller), by variances from leaving out
    one micro-batch at a time (jackknife) and Student's t with m - 1 degrees of freedom. Where N is
    not told from 0 its upper end is inf.

    Unlike the paper, which averages S and N over many steps of training, all micro-batches belong
    to the same weights and make one big batch: |G|^2 is then had from all pairs, the least
    variance that so many samples allow.

    Args:
        products: g_i . g_j, symmetric (m, m), m >= 8.
        size: b [samples], >= 1.
        confidence: Share of intervals that are to hold the truth, between 0 and 1.

    Returns:
        The estimate.

    Raises:
        ValueError: For too few micro-batches, or products that are not finite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> samples = 1.0 + 3.0 * rng.standard_normal((64, 16, 50))  # gradients of 64 x 16 samples
        >>> g = samples.mean(axis=1)
        >>> found = noise_scale(g @ g.T, size=16)
        >>> found.low < 9.0 < found.high  # tr(Sigma) = 50 * 9, |G|^2 = 50
        True

    References:
        McCandlish et al., An Empirical Model of Large-Batch Training, 2018, appendix A.1.
        https://arxiv.org/abs/1812.06162. Fieller, J. R. Stat. Soc. B 16, 1954.
    """
    products = np.asarray(products, np.float64)
    count = len(products)
    if products.shape != (count, count) or count < FEWEST:
        raise ValueError(
            f"noise_scale: `products` must be (m, m) with m >= {FEWEST}. "
            f"Received: products.shape={products.shape}. Use more micro-batches."
        )
    if not np.isfinite(products).all():
        raise ValueError(
            "noise_scale: `products` must be finite. Received: NaN or infinity. Look at the loss."
        )
    squares = np.diag(products)
    rows = products.sum(1) - squares
    pairs = rows.sum()
    norm = pairs / (count * (count - 1))
    trace = size * (squares.mean() - norm)
    # The same with each micro-batch left out in turn.
    norms = (pairs - 2 * rows) / ((count - 1) * (count - 2))
    traces = size * ((squares.sum() - squares) / (count - 1) - norms)
    low, high = _ratio_interval(trace, norm, *_jackknifed(traces, norms), count - 1, confidence)
    value = trace / norm if norm > 0 else math.inf
    return NoiseScale(float(value), float(low), float(high), float(trace), float(norm), count, size)


def _jackknifed(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Variances of two estimates and their covariance, from leave-one-out values."""
    one, other = first - first.mean(), second - second.mean()
    share = (len(first) - 1) / len(first)
    return share * float(one @ one), share * float(other @ other), share * float(one @ other)


def _ratio_interval(
    top: float,
    bottom: float,
    top_variance: float,
    bottom_variance: float,
    covariance: float,
    freedom: int,
    confidence: float,
) -> tuple[float, float]:
    """Ends of {q >= 0: (top - q bottom)^2 <= t^2 Var(top - q bottom)}."""
    t2 = _student(freedom, confidence) ** 2
    a = bottom**2 - t2 * bottom_variance
    b = top * bottom - t2 * covariance
    c = top**2 - t2 * top_variance
    inside = b * b - a * c
    if a > 0 and bottom > 0 and inside >= 0:
        root = math.sqrt(inside)
        return max(0.0, (b - root) / a), max(0.0, (b + root) / a)
    # The bottom is not told from 0, so nothing bounds the ratio from above.
    if a < 0 and inside >= 0:
        found = max((b - math.sqrt(inside)) / a, (b + math.sqrt(inside)) / a)
        return max(0.0, found), math.inf
    most = max(bottom, 0.0) + math.sqrt(t2 * bottom_variance)
    return (max(0.0, top) / most if most > 0 else 0.0), math.inf


def _student(freedom: int, confidence: float) -> float:
    """Two-sided quantile of Student's t by its expansion in 1 / freedom (Abramowitz 26.7.5).

    From 7 degrees of freedom on it is right to 0.1 %.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom ** (i + 1) for i, term in enumerate(terms))
