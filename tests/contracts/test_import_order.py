"""A room imports only from rooms before it, and inside a room from modules above."""

import ast

import pytest

from tests.contracts.tree import ORDER, home, imports, modules, package_imports

KNOWN = modules()

# Why these may look ahead, from inside a function: the method is where users look for it, and the
# module that sees every room is the last one.
LOOKS_AHEAD = {("tfrecipes.recipe.recipe", "tfrecipes.assemble")}

# The command line must answer --help without what the verbs need, so it imports them lazily.
LAZY_OURS = {"tfrecipes.cli", "tfrecipes.__main__"}
LAZY_OURS |= {f"tfrecipes.cli.{name}" for name in ORDER["cli"]}

# No Keras and no TensorFlow here, not even inside a function: these answer at once.
KERAS_FREE = ("tfrecipes.recipe", "tfrecipes.runs", "tfrecipes.doctor.rules")
KERAS_FREE += ("tfrecipes.doctor.diagnosis",)
KERAS = {"keras", "tensorflow", "keras_tuner"}

# Never at import: each takes a tenth of a second or more, or may be missing.
HEAVY = {"matplotlib", "keras_tuner", "tensorboard", "torch", "optax", "timm", "sklearn", "IPython"}

# What a function may import of third parties, because it is heavy or optional.
MAY_BE_LAZY = HEAVY | KERAS | {"rich", "jinja2", "safetensors", "pydantic", "typer", "tomli_w"}
MAY_BE_LAZY |= {"filelock", "numpy"}


def position(module):
    """(room, module in the room) as numbers; a room's own `__init__` stands after its modules."""
    parts = module.split(".")[1:]
    names = ORDER[parts[0]]
    return list(ORDER).index(parts[0]), names.index(parts[1]) if len(parts) > 1 else len(names)


def of_one_package(module, target):
    """Whether both lie in one package inside a room, which stands in the order as one name."""
    ours, theirs = module.split(".")[:3], target.split(".")[:3]
    return ours == theirs and len(ours) == 3


def of_the_package():
    """Imports of our own modules by our own modules, but for the lazy flat API at the root."""
    for module, found in package_imports(KNOWN):
        target = home(found.target, KNOWN)
        if target is not None and module != "tfrecipes":
            yield module, target, found


def test_every_module_has_its_place_in_the_order():
    lost = []
    for module in KNOWN:
        parts = module.split(".")[1:]
        if not parts:
            continue
        if parts[0] not in ORDER or (len(parts) > 1 and parts[1] not in ORDER[parts[0]]):
            lost.append(module)
    assert not lost, "give these a place in the import order of docs/design.md"


def test_imports_go_only_to_what_stands_before():
    wrong = []
    for module, target, found in of_the_package():
        if of_one_package(module, target):
            continue
        if target == "tfrecipes" or (found.lazy and (module, target) in LOOKS_AHEAD):
            continue
        if position(target) >= position(module):
            wrong.append(f"{module}:{found.line} imports {target}")
    assert not wrong


def test_no_module_imports_itself_through_the_flat_root():
    wrong = [
        f"{module}:{found.line} {found.target}"
        for module, target, found in of_the_package()
        if target == "tfrecipes" and found.target != "tfrecipes.__version__"
    ]
    assert not wrong, "import from the module that defines the name"


def test_functions_import_only_what_is_heavy_or_listed():
    wrong = []
    for module, found in package_imports(KNOWN):
        if not found.lazy or found.typing:
            continue
        target = home(found.target, KNOWN)
        if target is None:
            allowed = found.target.split(".")[0] in MAY_BE_LAZY
        else:
            allowed = module in LAZY_OURS or (module, target) in LOOKS_AHEAD
        if not allowed and module != "tfrecipes":
            wrong.append(f"{module}:{found.line} imports {found.target} inside a function")
    assert not wrong


def test_the_recipe_and_the_run_folder_know_no_keras():
    wrong = [
        f"{module}:{found.line} {found.target}"
        for module, found in package_imports(KNOWN)
        if module.startswith(KERAS_FREE)
        and not found.typing
        and found.target.split(".")[0] in KERAS
    ]
    assert not wrong


def test_heavy_libraries_are_imported_where_they_are_used():
    wrong = [
        f"{module}:{found.line} {found.target}"
        for module, found in package_imports(KNOWN)
        if not found.lazy and not found.typing and found.target.split(".")[0] in HEAVY
    ]
    assert not wrong


def test_the_design_names_every_room_once_and_every_module_once():
    assert len(ORDER) > 10
    for room, inside in ORDER.items():
        assert len(inside) == len(set(inside)), room


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import keras", [("keras", False, False)]),
        ("from . import plan", [("tfrecipes.step.plan", False, False)]),
        ("from ..runs import steps", [("tfrecipes.runs.steps", False, False)]),
        ("def f():\n    import torch", [("torch", True, False)]),
        ("class C:\n    import torch", [("torch", False, False)]),
        ("if TYPE_CHECKING:\n    import keras", [("keras", False, True)]),
        ("try:\n    import a\nexcept ImportError:\n    import b", [("a", False, False)] * 1),
    ],
)
def test_the_reader_of_imports_sees_them_all(source, expected):
    found = imports("tfrecipes.step.update", ast.parse(source), is_package=False)
    seen = [(i.target, i.lazy, i.typing) for i in found]
    assert seen[: len(expected)] == expected
