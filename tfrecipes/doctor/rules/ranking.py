"""Which finding comes first, and which is only another's symptom.

A cause hides what follows from it, so that the first lines name what to change. What was hidden is
named in the cause's evidence and comes back when the cause is gone.
"""

from collections.abc import Sequence
from dataclasses import replace

from tfrecipes.doctor.rules.finding import SEVERITIES, Finding

# What a loss that does not fall looks like from elsewhere.
_LEARNS_NOTHING = (
    "loss_not_falling",
    "falling_slowly",
    "plateau",
    "predicting_prior",
    "saturated_early",
)
_SHAKEN = (
    "diverged",
    "oscillating",
    "loss_spike",
    "gradient_spike",
    "mostly_clipped",
    "update_ratio",
    "noisy_validation",
)
_NO_GRADIENT = ("dead_layers", "vanishing_gradients", "update_ratio")
_VALIDATION = (
    "validation_gap",
    "validation_not_representative",
    "noisy_validation",
    "validation_leak",
)

# Cause -> its symptoms. A cause never hides another cause of the same kind, and data come before the rate,
# the rate before the architecture.
EXPLAINS: dict[str, tuple[str, ...]] = {
    "logits_mismatch": (
        *_LEARNS_NOTHING,
        *_SHAKEN,
        *_NO_GRADIENT,
        "initial_loss",
        "class_collapse",
        "labels_unrelated",
        "learning_rate_too_high",
        "wrong_loss",
        "not_finite",
        "validation_gap",
    ),
    "wrong_loss": (
        *_LEARNS_NOTHING,
        *_SHAKEN,
        *_NO_GRADIENT,
        "initial_loss",
        "labels_unrelated",
        "class_collapse",
    ),
    "constant_features": (
        *_LEARNS_NOTHING,
        *_NO_GRADIENT,
        "labels_unrelated",
        "class_collapse",
        "duplicate_samples",
        "validation_leak",
        "weight_decay_too_high",
    ),
    "inputs_not_normalised": (
        "validation_gap",
        *_LEARNS_NOTHING,
        *_SHAKEN,
        *_NO_GRADIENT,
        "initial_loss",
        "learning_rate_too_high",
        "warmup_missing",
        "labels_unrelated",
        "not_finite",
    ),
    "targets_not_normalised": (
        *_LEARNS_NOTHING,
        *_SHAKEN,
        *_NO_GRADIENT,
        "initial_loss",
        "learning_rate_too_high",
        "warmup_missing",
        "labels_unrelated",
        "not_finite",
    ),
    "labels_sorted": (
        *_LEARNS_NOTHING,
        *_SHAKEN,
        *_NO_GRADIENT,
        *_VALIDATION,
        "labels_unrelated",
        "learning_rate_too_high",
        "warmup_missing",
    ),
    "labels_unrelated": (
        *_LEARNS_NOTHING,
        *_NO_GRADIENT,
        *_VALIDATION,
        "frozen_layers",
        "oscillating",
    ),
    "validation_leak": (
        "duplicate_samples",
        "validation_gap",
        "noisy_validation",
    ),
    "duplicate_samples": ("validation_gap", "validation_not_representative"),
    "validation_not_representative": (
        "validation_gap",
        "noisy_validation",
        "saturated_early",
        "plateau",
    ),
    "class_collapse": (
        "labels_unrelated",
        *_LEARNS_NOTHING,
        "vanishing_gradients",
        "noisy_validation",
        "validation_leak",
        "duplicate_samples",
    ),
    "not_finite": (
        *_SHAKEN,
        *_LEARNS_NOTHING,
        "learning_rate_too_high",
        "warmup_missing",
        "dead_layers",
        "vanishing_gradients",
    ),
    "diverged": (
        "oscillating",
        "loss_spike",
        "gradient_spike",
        "mostly_clipped",
        "update_ratio",
        "noisy_validation",
        "loss_not_falling",
        "plateau",
        "predicting_prior",
        "learning_rate_too_high",
        "warmup_missing",
        "dead_layers",
        "initial_loss",
        "weight_decay_too_high",
    ),
    "learning_rate_too_high": (
        *_SHAKEN,
        *_LEARNS_NOTHING,
        *_NO_GRADIENT,
        "warmup_missing",
        "labels_unrelated",
        "validation_gap",
        "weight_decay_too_high",
    ),
    "oscillating": (
        "validation_gap",
        "loss_spike",
        "gradient_spike",
        "noisy_validation",
        "update_ratio",
        "plateau",
        "loss_not_falling",
        "mostly_clipped",
    ),
    "warmup_missing": ("loss_spike", "gradient_spike", "update_ratio"),
    "weight_decay_too_high": (
        *_LEARNS_NOTHING,
        *_NO_GRADIENT,
        "learning_rate_too_high",
        "labels_unrelated",
        "oscillating",
    ),
    "initial_loss": (
        "labels_unrelated",
        "warmup_missing",
        "mostly_clipped",
        "gradient_spike",
        "learning_rate_too_high",
        "falling_slowly",
        "oscillating",
        "update_ratio",
    ),
    "schedule_too_short": (
        *_LEARNS_NOTHING,
        "oscillating",
        "update_ratio",
        "learning_rate_off_schedule",
        "labels_unrelated",
    ),
    "learning_rate_off_schedule": ("falling_slowly", "oscillating", "loss_spike", "warmup_missing"),
    "frozen_layers": (*_LEARNS_NOTHING, *_NO_GRADIENT, "labels_unrelated"),
    "dead_layers": (*_LEARNS_NOTHING, "vanishing_gradients", "update_ratio", "labels_unrelated"),
    "vanishing_gradients": (*_LEARNS_NOTHING, "update_ratio", "labels_unrelated"),
    "float16_without_scale": (
        *_LEARNS_NOTHING,
        *_NO_GRADIENT,
        "learning_rate_too_high",
        "labels_unrelated",
        "warmup_missing",
    ),
    "loss_scale_overflows": (
        *_SHAKEN,
        "loss_not_falling",
        "falling_slowly",
        "not_finite",
        "warmup_missing",
        "initial_loss",
    ),
    "dropout_too_high": (
        "initial_loss",
        *_LEARNS_NOTHING,
        "validation_leak",
        "noisy_validation",
        "vanishing_gradients",
        "labels_unrelated",
    ),
    "batch_norm_tiny": (
        "plateau",
        "noisy_validation",
        "validation_gap",
        "validation_not_representative",
        "oscillating",
    ),
    "mostly_clipped": (
        "falling_slowly",
        "loss_not_falling",
        "predicting_prior",
        "plateau",
        "update_ratio",
        "labels_unrelated",
    ),
    "falling_slowly": (
        "loss_not_falling",
        "update_ratio",
        "plateau",
        "still_improving",
        "predicting_prior",
        "mostly_clipped",
        "labels_unrelated",
    ),
    "predicting_prior": ("loss_not_falling", "plateau", "saturated_early", "falling_slowly"),
    "loss_not_falling": ("plateau", "update_ratio", "saturated_early"),
    "plateau": ("saturated_early",),
    "validation_gap": ("saturated_early",),
    "loss_spike": (
        "gradient_spike",
        "validation_not_representative",
        "noisy_validation",
        "validation_gap",
    ),
}


# Among what is only worth knowing these come last: true of many a healthy run.
_ASIDE = (
    "constant_features",
    "initial_loss",
    "labels_sorted",
    "class_collapse",
    "mostly_clipped",
    "update_ratio",
)


def ranked(
    ours: Sequence[Finding], theirs: Sequence[Finding], order: Sequence[str]
) -> list[Finding]:
    """Errors first, causes before symptoms; symptoms of a finding that is there are left out.

    Args:
        ours: What our rules found.
        theirs: What a user's rules found: always kept, behind ours of the same severity.
        order: Our rules' names, the likeliest causes first.

    Returns:
        The findings that stand for themselves. A finding that explains others names them.
    """
    place = {name: i for i, name in enumerate(order)}
    ours = sorted(ours, key=lambda finding: place[finding.rule])
    hidden: dict[str, str] = {}
    for cause in ours:
        # Only what is above "info" is anybody's cause.
        if cause.severity == "info" or cause.rule in hidden:
            continue
        symptoms = EXPLAINS.get(cause.rule, ())
        for finding in ours:
            if finding.rule in symptoms and finding.rule != cause.rule:
                hidden.setdefault(finding.rule, cause.rule)
    kept = []
    for finding in ours:
        if finding.rule in hidden:
            continue
        symptoms = sorted(f"`{rule}`" for rule, cause in hidden.items() if cause == finding.rule)
        if symptoms:
            said = f"{finding.evidence} It explains {', '.join(symptoms)}."
            finding = replace(finding, evidence=said)
        kept.append(finding)
    return sorted([*kept, *theirs], key=_weight)


def _weight(finding: Finding) -> tuple[int, bool]:
    aside = finding.severity == "info" and finding.rule in _ASIDE
    return SEVERITIES.index(finding.severity), aside
