"""The order of what `check` finds: what is to be mended first stands first."""

from dataclasses import replace

from tfrecipes.doctor.rules import SEVERITIES, Finding

# Rules in the order in which their findings are handed out: data, learning rate, architecture, the
# rest. What stands first is to be mended first.
_DATA = (
    "input_shape",
    "not_finite",
    "labels",
    "sample_weight",
    "one_class",
    "constant_features",
    "loss_broadcasts",
    "labels_look_random",
    "not_normalised",
    "targets_not_normalised",
    "validation_differs",
    "shared_samples",
    "repeated_samples",
    "sorted_labels",
    "imbalanced_classes",
    "unshuffled_stream",
)
_ARCHITECTURE = (
    "model_fails",
    "nothing_trainable",
    "softmax_of_one",
    "softmax_twice",
    "logits_mismatch",
    "activation_and_loss",
    "not_finite_at_start",
    "samples_mixed",
    "no_gradient",
    "dead_units",
    "dead_weights",
    "inputs_ignored",
    "gradients_vanish",
    "activations_explode",
    "loss_at_start",
    "batch_norm_small_batch",
    "output_16_bits",
    "unused_outputs",
    "batch_not_fitted",
)
RULES_IN_ORDER = (*_DATA, "learning_rate", *_ARCHITECTURE, "memory", "not_looked_at")

# What a finding brings about by itself: reported as worth knowing, for it goes with its cause.
_FOLLOWS = {
    "not_normalised": (
        "loss_at_start batch_not_fitted learning_rate dead_units activations_explode "
        "gradients_vanish dead_weights inputs_ignored not_finite_at_start"
    ),
    "targets_not_normalised": "loss_at_start batch_not_fitted learning_rate activation_and_loss",
    "labels": "loss_at_start batch_not_fitted learning_rate unused_outputs loss_broadcasts",
    "one_class": "imbalanced_classes unused_outputs labels_look_random inputs_ignored",
    "constant_features": (
        "labels_look_random inputs_ignored repeated_samples batch_not_fitted dead_weights dead_units "
        "gradients_vanish"
    ),
    "loss_broadcasts": "batch_not_fitted learning_rate samples_mixed",
    "softmax_of_one": (
        "logits_mismatch activation_and_loss loss_at_start batch_not_fitted no_gradient "
        "dead_weights inputs_ignored learning_rate gradients_vanish"
    ),
    "softmax_twice": "logits_mismatch batch_not_fitted gradients_vanish",
    "logits_mismatch": (
        "loss_at_start batch_not_fitted learning_rate gradients_vanish not_finite_at_start "
        "dead_weights"
    ),
    "activation_and_loss": "loss_at_start batch_not_fitted dead_units dead_weights inputs_ignored",
    "not_finite_at_start": "loss_at_start batch_not_fitted learning_rate activations_explode",
    "samples_mixed": "batch_not_fitted",
    "no_gradient": "batch_not_fitted inputs_ignored dead_weights",
    "dead_units": "dead_weights inputs_ignored batch_not_fitted gradients_vanish",
    "dead_weights": "inputs_ignored batch_not_fitted gradients_vanish",
    "inputs_ignored": "batch_not_fitted",
    "gradients_vanish": "batch_not_fitted inputs_ignored dead_weights",
    "activations_explode": "loss_at_start batch_not_fitted learning_rate",
    "loss_at_start": "batch_not_fitted learning_rate",
    "batch_norm_small_batch": "batch_not_fitted inputs_ignored",
    "shared_samples": "repeated_samples",
}


def ranked(found: list[Finding]) -> list[Finding]:
    """Causes before what follows from them, which is only worth knowing.

    Args:
        found: Findings in any order.

    Returns:
        Errors and warnings by group, each group's errors first; then what is worth knowing.
    """
    causes = {finding.rule for finding in found if finding.severity != "info"}
    follow = {
        rule: cause
        for cause in causes
        for rule in _FOLLOWS.get(cause, "").split()
        if rule != cause and cause not in _FOLLOWS.get(rule, "").split()
    }
    told = [
        replace(
            finding,
            severity="info",
            cause=f"Probably follows from {follow[finding.rule]}. {finding.cause}",
        )
        if finding.rule in follow and finding.severity != "info"
        else finding
        for finding in found
    ]
    group = {rule: 0 for rule in _DATA} | {"learning_rate": 1} | {rule: 2 for rule in _ARCHITECTURE}
    return sorted(
        told,
        key=lambda f: (
            f.severity == "info",
            group.get(f.rule, 3),
            SEVERITIES.index(f.severity),
            RULES_IN_ORDER.index(f.rule),
        ),
    )
