"""The order of what `check` finds: what is to be mended first stands first."""

from dataclasses import replace

from tfrecipes.doctor.rules import SEVERITIES, Finding

# Rules in the order in which their findings are handed out: data, learning rate, architecture, the
# rest. What stands first is to be mended first.
_DATA = (
    "input_shape",
    "not_finite",
    "label_shape",
    "label_range",
    "sample_weight",
    "one_class",
    "constant_features",
    "loss_broadcasts",
    "labels_unrelated",
    "inputs_not_normalised",
    "targets_not_normalised",
    "validation_leak",
    "validation_not_representative",
    "duplicate_samples",
    "labels_sorted",
    "imbalanced_classes",
    "unshuffled_stream",
)
_RATE = ("learning_rate_too_high", "learning_rate_too_low")
_ARCHITECTURE = (
    "model_fails",
    "frozen_layers",
    "softmax_of_one",
    "softmax_twice",
    "logits_mismatch",
    "activation_and_loss",
    "not_finite_at_start",
    "samples_mixed",
    "no_gradient",
    "dead_layers",
    "inputs_ignored",
    "vanishing_gradients",
    "exploding_initialisation",
    "initial_loss",
    "batch_norm_tiny",
    "dropout_too_high",
    "output_16_bits",
    "loss_for_labels",
    "unused_outputs",
    "batch_not_fitted",
)
RULES_IN_ORDER = (*_DATA, *_RATE, *_ARCHITECTURE, "memory", "not_looked_at")

_UNFITTED = "initial_loss batch_not_fitted learning_rate_too_high exploding_initialisation"
_NOTHING_FLOWS = "batch_not_fitted inputs_ignored vanishing_gradients dead_layers no_gradient"
# What a finding brings about by itself: reported as worth knowing, for it goes with its cause.
_FOLLOWS = {
    "inputs_not_normalised": f"{_UNFITTED} {_NOTHING_FLOWS} not_finite_at_start",
    "targets_not_normalised": f"{_UNFITTED} activation_and_loss",
    "label_shape": f"{_UNFITTED} unused_outputs loss_broadcasts loss_for_labels",
    "label_range": f"{_UNFITTED} unused_outputs loss_for_labels activation_and_loss",
    "one_class": "imbalanced_classes unused_outputs labels_unrelated inputs_ignored dead_layers",
    "constant_features": f"labels_unrelated duplicate_samples {_NOTHING_FLOWS}",
    "loss_broadcasts": f"{_UNFITTED} samples_mixed",
    "frozen_layers": "batch_not_fitted",
    "softmax_of_one": f"logits_mismatch activation_and_loss {_UNFITTED} {_NOTHING_FLOWS}",
    "softmax_twice": f"logits_mismatch {_NOTHING_FLOWS}",
    "logits_mismatch": f"{_UNFITTED} {_NOTHING_FLOWS} not_finite_at_start",
    "activation_and_loss": f"{_UNFITTED} {_NOTHING_FLOWS} loss_for_labels",
    "not_finite_at_start": f"{_UNFITTED} {_NOTHING_FLOWS} samples_mixed",
    "samples_mixed": "batch_not_fitted",
    "no_gradient": "batch_not_fitted inputs_ignored dead_layers",
    "dead_layers": "inputs_ignored batch_not_fitted vanishing_gradients no_gradient",
    "inputs_ignored": "batch_not_fitted",
    "vanishing_gradients": "batch_not_fitted inputs_ignored dead_layers",
    "exploding_initialisation": "initial_loss batch_not_fitted learning_rate_too_high dead_layers",
    "initial_loss": "batch_not_fitted learning_rate_too_high",
    "batch_norm_tiny": "batch_not_fitted inputs_ignored",
    "dropout_too_high": "initial_loss batch_not_fitted dead_layers",
    "validation_leak": "duplicate_samples",
    "loss_for_labels": "batch_not_fitted",
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
    group = {
        rule: number for number, rules in enumerate((_DATA, _RATE, _ARCHITECTURE)) for rule in rules
    }
    return sorted(
        told,
        key=lambda f: (
            f.severity == "info",
            group.get(f.rule, 3),
            SEVERITIES.index(f.severity),
            RULES_IN_ORDER.index(f.rule),
        ),
    )
