"""The rule book: what can be wrong with a run, one function a rule.

A rule is `f(run) -> Finding | None`. It says nothing where it cannot be sure: a false alarm costs more
trust than a late one. `docs/doctor.md` lists them with what each reads, its threshold and its source;
`thresholds` has the numbers, `ranking` which finding explains which.
"""

from tfrecipes.doctor.rules.data import (
    class_collapse,
    constant_features,
    duplicate_samples,
    inputs_not_normalised,
    labels_sorted,
    labels_unrelated,
    targets_not_normalised,
)
from tfrecipes.doctor.rules.divergence import (
    diverged,
    learning_rate_too_high,
    oscillating,
    warmup_missing,
)
from tfrecipes.doctor.rules.finding import SEVERITIES, Finding, Rule, RunLike, Severity
from tfrecipes.doctor.rules.layers import (
    batch_norm_tiny,
    dead_layers,
    dropout_too_high,
    frozen_layers,
    vanishing_gradients,
)
from tfrecipes.doctor.rules.lost_steps import not_finite
from tfrecipes.doctor.rules.outputs import (
    initial_loss,
    logits_mismatch,
    predicting_prior,
    wrong_loss,
)
from tfrecipes.doctor.rules.progress import (
    falling_slowly,
    loss_not_falling,
    plateau,
    saturated_early,
    still_improving,
)
from tfrecipes.doctor.rules.speed import communication_bound, input_bound
from tfrecipes.doctor.rules.spikes import gradient_spike, loss_spike
from tfrecipes.doctor.rules.updates import (
    float16_without_scale,
    learning_rate_off_schedule,
    loss_scale_overflows,
    mostly_clipped,
    schedule_too_short,
    update_ratio,
    weight_decay_too_high,
)
from tfrecipes.doctor.rules.validation import (
    noisy_validation,
    validation_gap,
    validation_leak,
    validation_not_representative,
)

# The order in which causes are believed: what the facts prove, then data, then the rate, then the
# architecture, then what is only seen.
RULES: tuple[Rule, ...] = (
    logits_mismatch,
    wrong_loss,
    constant_features,
    labels_sorted,
    inputs_not_normalised,
    targets_not_normalised,
    float16_without_scale,
    loss_scale_overflows,
    dropout_too_high,
    schedule_too_short,
    weight_decay_too_high,
    batch_norm_tiny,
    initial_loss,
    not_finite,
    diverged,
    frozen_layers,
    class_collapse,
    labels_unrelated,
    dead_layers,
    vanishing_gradients,
    learning_rate_too_high,
    loss_spike,
    validation_leak,
    duplicate_samples,
    validation_not_representative,
    learning_rate_off_schedule,
    warmup_missing,
    oscillating,
    mostly_clipped,
    falling_slowly,
    predicting_prior,
    loss_not_falling,
    plateau,
    gradient_spike,
    noisy_validation,
    validation_gap,
    update_ratio,
    input_bound,
    communication_bound,
    saturated_early,
    still_improving,
)

__all__ = ["RULES", "SEVERITIES", "Finding", "Rule", "RunLike", "Severity"]
