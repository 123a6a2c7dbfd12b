"""What can be wrong with inputs before any model sees them: values, ranges, features, samples."""

from collections.abc import Iterator

import numpy as np

from tfrecipes.doctor.checks import chunks
from tfrecipes.doctor.repeats import Repeats, repeats, shared
from tfrecipes.doctor.rules import Finding, Severity
from tfrecipes.doctor.sampled import Sampled, some_rows

# What a net is made for has a root mean square near 1 in every feature (LeCun et al., Efficient
# BackProp, 1998, 4.3). Grey levels have 100 and more; digits of 0 to 16 have 8 and train well.
LARGE_RMS = 10.0
TINY_MAXIMUM = 0.02
DECADES = 1e3
# More features than this are taken for pixels, counts of words and the like: some of them are
# constant or the same in any healthy data.
_TABLE_FEATURES = 64
# The share at which DeepChecks' "data duplicates" and "train test samples mix" fail by default.
REPEATED_SHARE = 0.05
SHARED_SHARE = 0.01
SHARED_MEANINGLESS = 0.5
# Repeated rows are worth a warning if they are that many times more than chance would give.
_ABOVE_CHANCE = 10.0
# Means that lie this many deviations apart, on average over features; deviations that differ by this
# factor; ids of which this share would have to change. Two halves of one shuffled whole of 100
# samples differ by .14 deviations, 7 % and less.
SHIFTED = 0.5
WIDENED = 1.4
OTHER_IDS = 0.3
_ENOUGH_TO_COMPARE = 32


def not_finite(sample: Sampled, where: str) -> Finding | None:
    """NaN and infinite numbers in inputs, labels and weights: how many, and where."""
    parts = sample.inputs() | sample.labels()
    said, rows = [], 0
    for name, array in parts.items():
        if array.dtype.kind != "f":
            continue
        nan = inf = 0
        bad_rows = np.zeros(len(array), bool)
        for start, part in chunks(array):
            if np.isfinite(part).all():
                continue
            wrong = ~np.isfinite(part)
            nan += int(np.isnan(part).sum())
            inf += int(wrong.sum()) - int(np.isnan(part).sum())
            bad_rows[start : start + len(part)] = wrong.reshape(len(part), -1).any(1)
        if not nan + inf:
            continue
        rows += int(bad_rows.sum())
        first = int(bad_rows.argmax())
        place = np.argwhere(~np.isfinite(array[first]))[0]
        features = ""
        if array.ndim == 2:
            columns = np.flatnonzero((~np.isfinite(array[bad_rows])).any(0))
            features = f", all of them in feature {columns[0]}" if len(columns) == 1 else ""
        said.append(
            f"{name} has {nan:,} NaN and {inf:,} infinite values in {int(bad_rows.sum()):,} of "
            f"{len(array):,} rows{features}; the first is {name}"
            f"[{', '.join(str(int(i)) for i in (first, *place))}]"
        )
    if not said:
        return None
    return Finding(
        "not_finite",
        "error",
        f"{where}: {'. '.join(said)}.",
        "A missing value, a division by zero or the logarithm of zero when the data were made; "
        "one of them makes the loss, and then every weight, NaN.",
        "Leave such rows out: keep = np.isfinite(x).reshape(len(x), -1).all(1); x, y = x[keep], "
        "y[keep]; or fill them: x = np.nan_to_num(x, nan=float(np.nanmean(x))).",
    )


def by_feature(array: np.ndarray) -> np.ndarray:
    """Some rows as float64 (values, features): the last axis holds the features."""
    rows = some_rows(array)
    flat = rows.reshape(len(rows), -1) if rows.ndim < 3 else rows.reshape(-1, rows.shape[-1])
    return flat.astype(np.float64)


def range_of(array: np.ndarray) -> tuple[str, str] | None:
    """(what is wrong with the range of an input's features, what to do), or None.

    Example:
        >>> range_of(np.random.default_rng(0).integers(0, 256, (50, 4)).astype("float32"))[0][:18]
        'goes from 0 to 255'
    """
    values = by_feature(array)
    values = np.where(np.isfinite(values), values, 0.0)
    low, high = float(values.min()), float(values.max())
    mean, deviation = values.mean(0), values.std(0)
    rms = np.sqrt(mean**2 + deviation**2)
    standardise = "x = (x - x.mean(0)) / (x.std(0) + 1e-8)"
    if rms.max() > LARGE_RMS:
        worst, n = int(rms.argmax()), len(rms)
        large = int((rms > LARGE_RMS).sum())
        if low >= 0 and 200 < high <= 255 and n <= 4 and array.ndim >= 3:
            standardise = "x = x / 255.0"
        elif large == 1 and n > 1:
            standardise = (
                f"x[:, {worst}] = (x[:, {worst}] - {mean[worst]:g}) / {deviation[worst]:g}"
            )
        return (
            f"goes from {low:g} to {high:g} (root mean square "
            + (
                f"{rms[worst]:.3g}"
                if n == 1
                else f"{rms[worst]:.3g} in feature {worst}, median {np.median(rms):.3g}; {large} of "
                f"{n} features are above {LARGE_RMS:g}"
            )
            + "; nets are made for about 1)"
        ), standardise
    # Columns of two values, counts and the like say nothing by their small spread.
    varied = [
        j for j in range(min(len(rms), 4096)) if deviation[j] > 0 and _is_continuous(values[:, j])
    ]
    if len(varied) > 1:
        spread = deviation[varied]
        if spread.max() > DECADES * spread.min():
            return (
                f"has features whose scales differ by {np.log10(spread.max() / spread.min()):.1f} "
                f"decades: standard deviation {spread.min():.3g} in feature "
                f"{varied[int(spread.argmin())]}, {spread.max():.3g} in feature "
                f"{varied[int(spread.argmax())]}"
            ), standardise
    if 0 < max(abs(low), abs(high)) < TINY_MAXIMUM:
        return (
            f"goes from {low:.3g} to {high:.3g}: no number in it is larger than "
            f"{max(abs(low), abs(high)):.2g} (divided by 255 twice?)"
        ), standardise
    return None


def _is_continuous(column: np.ndarray) -> bool:
    return len(np.unique(column[:200])) > 10


def not_normalised(name: str, problem: tuple[str, str], where: str) -> Finding:
    """The finding for an input whose range reaches the first weights as it is."""
    said, fix = problem
    return Finding(
        "inputs_not_normalised",
        "warning",
        f"{where}: {name} {said}.",
        "The data were not normalised. Features far from unit scale make the loss ill-conditioned: "
        "a rate that suits the others is too high for the largest and too low for the smallest.",
        f"Normalise with the training data's own numbers, validation data too: {fix}; or put it "
        "into the model: norm = keras.layers.Normalization(); norm.adapt(x).",
    )


def constant_features(sample: Sampled, where: str) -> Finding | None:
    """Features that are the same in every sample, or the same as another feature."""
    said, severity = [], "info"
    for name, array in sample.inputs().items():
        if array.ndim != 2 or len(array) < 8:
            if len(array) >= 8 and (some_rows(array) == array[:1]).all():
                said.append(f"{name} is the same in all {len(array):,} samples")
                severity = "error"
            continue
        rows = some_rows(array)
        constant = np.flatnonzero((rows == rows[:1]).all(0))
        if len(constant) == array.shape[1]:
            said.append(f"{name} is the same in all {len(array):,} samples")
            severity = "error"
            continue
        same = _equal_columns(rows, constant)
        table = array.shape[1] < _TABLE_FEATURES
        if (len(constant) or same) and table and severity == "info":
            severity = "warning"
        if len(constant):
            said.append(
                f"{len(constant)} of {array.shape[1]} features of {name} are constant: "
                + ", ".join(f"feature {j} is {rows[0, j]:g}" for j in constant[:3])
            )
        if same:
            said.append(
                f"{len(same)} features of {name} repeat another one: "
                + ", ".join(f"feature {b} is feature {a}" for a, b in same[:3])
            )
    if not said:
        return None
    return Finding(
        "constant_features",
        severity,  # type: ignore[arg-type]
        f"{where}: {'. '.join(said)}.",
        "A column that was never filled, was filled with another one's values, or is unused: "
        "it tells the model nothing."
        + (" In pixels and counts of words it is usual." if severity == "info" else ""),
        "Look at how these columns are made; leave them out if they are meant: "
        "x = np.delete(x, [j, ...], axis=1).",
    )


def _equal_columns(rows: np.ndarray, constant: np.ndarray) -> list[tuple[int, int]]:
    seen: dict[bytes, int] = {}
    same = []
    for j in np.setdiff1d(np.arange(rows.shape[1]), constant):
        column = np.ascontiguousarray(rows[:, j])
        if len(np.unique(column[:200])) <= 2:
            continue  # two flags may agree by chance, or mean one thing
        key = column.tobytes()
        if key in seen:
            same.append((seen[key], int(j)))
        seen.setdefault(key, int(j))
    return same


def repeated_samples(sample: Sampled, where: str) -> Finding | None:
    """Samples that occur more than once."""
    inputs = sample.inputs()
    if sample.rows < 2 or not inputs or any(len(a) != sample.rows for a in inputs.values()):
        return None
    labels = list(sample.labels().values())
    found = repeats(inputs, labels[0] if len(labels) == 1 else None)
    if not found.repeated or sample.endless:  # a second pass is no copy
        return None
    share = found.repeated / found.rows
    surprising = found.repeated > _ABOVE_CHANCE * found.expected
    other = (
        f", {found.contradicting:,} of them with another label than their first"
        if found.contradicting
        else ""
    )
    return Finding(
        "duplicate_samples",
        "warning" if share > REPEATED_SHARE and surprising else "info",
        f"{where}: {found.repeated:,} of {found.rows:,} samples ({share:.1%}) are copies of an "
        f"earlier one{other}; the first is row {_pair(found)}.{_looked_at(sample)}",
        "Files that were joined twice, or sampling with replacement. They weigh double, and once "
        "split, validation sees what was trained on."
        if surprising
        else "There are few different values, so rows repeat by themselves.",
        "Keep one of each before splitting: _, keep = np.unique(x.reshape(len(x), -1), axis=0, "
        "return_index=True); x, y = x[np.sort(keep)], y[np.sort(keep)].",
    )


def _pair(found: Repeats) -> str:
    if found.first is None:
        return "not known"
    return f"{found.first[1]:,}, which is row {found.first[0]:,}"


def shared_samples(training: Sampled, validation: Sampled) -> Finding | None:
    """Validation samples that are trained on."""
    ours, theirs = training.inputs(), validation.inputs()
    if not ours or any(len(a) != training.rows for a in ours.values()):
        return None
    if not theirs or any(len(a) != validation.rows for a in theirs.values()):
        return None
    found = shared(ours, theirs)
    if found is None or not found.shared or found.first is None:
        return None
    share = found.shared / found.rows
    # One sample may be a copy in any data: two flowers of the same measures.
    surprising = found.shared > max(1.0, _ABOVE_CHANCE * found.expected)
    severity: Severity = "info"
    if surprising and share >= SHARED_SHARE:
        severity = "error" if share >= SHARED_MEANINGLESS else "warning"
    return Finding(
        "validation_leak",
        severity,
        f"validation_data: {found.shared:,} of {found.rows:,} samples ({share:.1%}) are in the "
        f"training data too; the first is row {found.first[1]:,}, which is training row "
        f"{found.first[0]:,}.{_looked_at(training)}",
        "The split was made with copies in the data, or the same rows are in both parts: "
        "validation then measures memory."
        if surprising
        else "There are few different values, so rows repeat by themselves.",
        "Split once, after copies were taken out: x, keep = np.unique(x, axis=0, "
        "return_index=True); y = y[keep]; then cut into training and validation.",
    )


def _looked_at(sample: Sampled) -> str:
    return "" if sample.is_whole else f" The first {sample.rows:,} samples were looked at."


def validation_differs(training: Sampled, validation: Sampled) -> Finding | None:
    """Validation inputs of another distribution: prepared in another way, or from elsewhere."""
    ours, theirs = training.inputs(), validation.inputs()
    for name in ours:
        if name not in theirs or ours[name].shape[1:] != theirs[name].shape[1:]:
            continue
        if min(len(ours[name]), len(theirs[name])) < _ENOUGH_TO_COMPARE:
            continue
        said = (
            _other_ids(ours[name], theirs[name])
            if ours[name].dtype.kind in "iu" and ours[name].dtype.itemsize > 1
            else _other_scale(ours[name], theirs[name])
        )
        if said is not None:
            return Finding(
                "validation_not_representative",
                "warning",
                f"validation_data: {name} {said}.",
                "The validation data were not prepared as the training data were (another scale, "
                "their own mean and deviation), or come from another distribution.",
                "Prepare both with the training data's numbers: mean, std = x.mean(0), x.std(0); "
                "x_val = (x_val - mean) / std; and draw both from one shuffled whole.",
            )
    return None


def _other_scale(ours: np.ndarray, theirs: np.ndarray) -> str | None:
    a, b = (np.where(np.isfinite(v), v, 0.0) for v in (by_feature(ours), by_feature(theirs)))
    spread, other = a.std(0), b.std(0)
    varied = spread > 0
    if not varied.any():
        return None
    moved = float(np.mean(abs(a.mean(0) - b.mean(0))[varied] / spread[varied]))
    wider = float(np.median(other[varied] / spread[varied]))
    if moved < SHIFTED and 1 / WIDENED < wider < WIDENED:
        return None
    return (
        f"has mean {b.mean():.3g} and standard deviation {b.std():.3g}, in training they are "
        f"{a.mean():.3g} and {a.std():.3g}; its features' means are {moved:.2g} deviations from "
        f"those of training, their deviations {wider:.2g} times as large"
    )


def _other_ids(ours: np.ndarray, theirs: np.ndarray) -> str | None:
    a, b = some_rows(ours).reshape(-1), some_rows(theirs).reshape(-1)
    ids, places = np.unique(np.concatenate([a, b]), return_inverse=True)
    if len(ids) * 20 > min(len(a), len(b)):
        return None  # too few of each to compare how often they come
    shares = [
        np.bincount(part, minlength=len(ids)) / len(part)
        for part in (places[: len(a)], places[len(a) :])
    ]
    apart = float(abs(shares[0] - shares[1]).sum()) / 2
    if apart < OTHER_IDS:
        return None
    most = int(abs(shares[0] - shares[1]).argmax())
    return (
        f"has other frequencies: {apart:.0%} of its {len(b):,} ids would have to be others to match "
        f"training ({ids[most]} is {shares[1][most]:.1%} of them, {shares[0][most]:.1%} in training)"
    )


def ranges(sample: Sampled) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield (input's name, problem) for each input whose range is not what a net is made for.

    Whole numbers other than grey levels are ids for an embedding, until the model says otherwise.
    """
    for name, array in sample.inputs().items():
        problem = range_of(array) if array.dtype.kind != "b" and len(array) > 1 else None
        if problem is not None:
            yield name, problem
