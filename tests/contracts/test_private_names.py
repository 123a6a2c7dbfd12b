"""Private names of Keras and TensorFlow are touched in tfrecipes/step/keras_seams/ alone."""

import ast

import pytest

from tests.contracts.tree import modules, package_imports

SEAMS = "tfrecipes.step.keras_seams"
KNOWN = modules()

PRIVATE_PACKAGES = ("keras.src.", "tensorflow.python.", "tensorflow.core.", "tensorflow.compiler.")

# Private attributes of Keras's and TensorFlow's objects. Python cannot tell whose object an
# attribute is read from, so the names are listed; one that our own classes define is ours.
PRIVATE_ATTRIBUTES = {
    "_aggregate_additional_loss",
    "_backend",
    "_build_config",
    "_callbacks_list",
    "_clip_gradients",
    "_compile_config",
    "_compile_loss",
    "_compile_metrics",
    "_compute_current_learning_rate",
    "_distribute_strategy",
    "_eval_epoch_iterator",
    "_flat_losses",
    "_flat_metrics",
    "_get",
    "_get_metrics_result_or_logs",
    "_get_own_losses",
    "_get_variable_index",
    "_initial_epoch",
    "_iterations",
    "_jit_compile",
    "_keras_mask",
    "_learning_rate",
    "_loss_tracker",
    "_losses",
    "_make_function",
    "_pythonify_logs",
    "_resolve_auto_jit_compile",
    "_set_mask_metadata",
    "_steps_seen",
    "_symbolic_build",
    "_trainable_variables",
    "_use_merge_call",
    "_validate_and_get_metrics_result",
    "_values",
}


def defined_names(tree):
    """Private names that a module's own classes and functions define or assign to `self`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and on_self(node):
            names.add(node.attr)
    return names


def on_self(attribute):
    """Whether an attribute is read from, or written to, `self` or `cls`."""
    return isinstance(attribute.value, ast.Name) and attribute.value.id in {"self", "cls"}


def private_uses(tree):
    """[(line, what)] of private names of Keras and TensorFlow in a syntax tree."""
    found = []
    ours = defined_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if node.attr in PRIVATE_ATTRIBUTES and not (on_self(node) and node.attr in ours):
                found.append((node.lineno, f".{node.attr}"))
            dotted = ast.unparse(node)
            if dotted in {"keras.src", "tf.python", "tensorflow.python", "tf.compat.v1.keras"}:
                found.append((node.lineno, dotted))
            if dotted.startswith(("keras.", "tf.")) and node.attr.startswith("_"):
                dunder = node.attr.startswith("__") and node.attr.endswith("__")
                if not dunder:
                    found.append((node.lineno, dotted))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in {
            "getattr",
            "setattr",
            "hasattr",
            "delattr",
        }:
            name = node.args[1] if len(node.args) > 1 else None
            if isinstance(name, ast.Constant) and name.value in PRIVATE_ATTRIBUTES:
                found.append((node.lineno, f"{node.func.id} {name.value}"))
    return found


@pytest.mark.parametrize("module", sorted(KNOWN))
def test_a_module_reads_no_private_name(module):
    if not module.startswith(SEAMS):
        assert private_uses(KNOWN[module]) == []


def test_no_module_imports_a_private_package():
    wrong = [
        f"{module}:{found.line} {found.target}"
        for module, found in package_imports(KNOWN)
        if not module.startswith(SEAMS) and f"{found.target}.".startswith(PRIVATE_PACKAGES)
    ]
    assert not wrong


@pytest.mark.parametrize(
    "source",
    [
        "model._symbolic_build(x)",
        "model.optimizer._iterations.assign(0)",
        "getattr(mask, '_keras_mask', None)",
        "keras.src.backend.compute()",
        "keras._something",
        "self._losses",
    ],
)
def test_the_search_finds_a_private_name(source):
    assert private_uses(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "class C:\n    def _get(self):\n        return self._get()",
        "class C:\n    def f(self):\n        self._iterations = 0\n        return self._iterations",
        "keras.__version__",
        "plan._columns",
    ],
)
def test_the_search_leaves_our_own_names_alone(source):
    assert not private_uses(ast.parse(source))
