"""Every name of the flat API resolves, says what it is, and is the same name to a type checker."""

import ast
import inspect
import subprocess
import sys

import pytest

import tfrecipes
from tests.contracts.tree import PACKAGE, is_type_checking

HOMES = {name: module for module, names in tfrecipes._HOMES.items() for name in names}
NAMES = sorted(HOMES)


def test_names_for_the_type_checker_are_the_lazy_ones():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        alias.asname or alias.name: statement.module
        for block in tree.body
        if is_type_checking(block)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen == HOMES


def test_no_name_has_two_homes():
    assert len(NAMES) == sum(len(names) for names in tfrecipes._HOMES.values())
    assert set(NAMES) <= set(tfrecipes.__all__)
    assert set(NAMES) <= set(dir(tfrecipes))


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_resolves_to_what_its_module_holds(name):
    value = getattr(tfrecipes, name)
    assert value is getattr(sys.modules[HOMES[name]], name)
    assert getattr(tfrecipes, name) is value


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_a_docstring_of_its_own(name):
    value = getattr(tfrecipes, name)
    if not inspect.isclass(value) and not inspect.isroutine(value):
        return  # a constant says what it is where it stands
    text = inspect.cleandoc(value.__doc__ or "")
    assert text
    if not is_record(value):
        assert "Args:" in text or not required_arguments(value), f"{name} hides its arguments"
    if inspect.isclass(value):
        inherited = {inspect.cleandoc(base.__doc__ or "") for base in value.__mro__[1:]}
        assert text not in inherited, f"{name} has only the docstring of a base class"


def is_record(value):
    """Whether a class is fields and no more: what makes one is its methods or the library."""
    return hasattr(value, "__dataclass_fields__") or hasattr(value, "model_fields")


def required_arguments(value):
    """Names of the arguments that a caller has to give."""
    return [
        parameter.name
        for parameter in inspect.signature(value).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]


def public_methods():
    """(class, method) of every public method that one of our public classes defines itself."""
    for name in NAMES:
        value = getattr(tfrecipes, name)
        if inspect.isclass(value):
            for key, member in vars(value).items():
                if not key.startswith("_") and inspect.isroutine(member):
                    yield value, key


def test_a_public_method_that_is_new_has_a_docstring():
    # Methods that override Keras's inherit what those say.
    silent = [
        f"{owner.__name__}.{key}"
        for owner, key in public_methods()
        if not inspect.getdoc(getattr(owner, key))
    ]
    assert not silent


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = tfrecipes.no_such_name


def test_another_backend_is_refused_in_one_sentence():
    run = subprocess.run(
        [sys.executable, "-c", "import tfrecipes"],
        env={"KERAS_BACKEND": "jax", "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    (sentence,) = [line for line in run.stderr.splitlines() if line.startswith("ImportError")]
    assert "KERAS_BACKEND" in sentence
    assert "'jax'" in sentence
