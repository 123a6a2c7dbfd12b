"""The package as syntax trees: what the contracts read, and the order that they hold."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tfrecipes"


def written_order():
    """{room: its modules}, in order, as docs/design.md states it: the one place where it stands.

    A module that is planned may be listed before it exists.
    """
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- import order -->\n```\n(.*?)```", text, re.S)
    order, room = {}, None
    for line in block.splitlines():
        head, colon, rest = line.partition(":")
        room = head.strip() if colon else room  # a line without a colon goes on with the room above
        order[room] = (*order.get(room, ()), *re.findall(r"\w+", rest if colon else line))
    return order


ORDER = written_order()


@dataclass(frozen=True)
class Import:
    """One import statement's target.

    Attributes:
        target: Dotted name of a module, absolute, or of a name inside it.
        line: Line of the statement.
        lazy: True inside a function: it runs when the function does.
        typing: True under `if TYPE_CHECKING`: it never runs.
    """

    target: str
    line: int
    lazy: bool
    typing: bool


def module_name(path):
    """`tfrecipes/step/plan.py` as `tfrecipes.step.plan`; a package as its own name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules():
    """{dotted name: syntax tree} of every module in tfrecipes/."""
    found = {
        module_name(path): ast.parse(path.read_text(encoding="utf-8"), str(path))
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    if len(found) < len(ORDER) - 4:
        raise RuntimeError(f"tests/contracts: {PACKAGE} holds only {sorted(found)}")
    return found


def is_type_checking(node):
    """Whether `node` is `if TYPE_CHECKING:` or `if typing.TYPE_CHECKING:`."""
    if not isinstance(node, ast.If):
        return False
    test = node.test
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"


def imports(module, tree, is_package):
    """Every import of a module, in functions and under TYPE_CHECKING too, as absolute names."""
    package = module if is_package else module.rpartition(".")[0]
    found = []

    def visit(node, lazy, typing):
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, lazy, typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, base] if base else up)
            found.extend(
                Import(f"{base}.{alias.name}", node.lineno, lazy, typing) for alias in node.names
            )
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if is_type_checking(node):
            for child in node.body:
                visit(child, lazy, True)
            for child in node.orelse:
                visit(child, lazy, typing)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, lazy or inside, typing)

    visit(tree, False, False)
    return found


def package_imports(known):
    """[(module, Import)] of every import in the package.

    Args:
        known: What `modules()` gave.
    """
    packages = {name for name in known if (ROOT / name.replace(".", "/")).is_dir()}
    return [
        (name, found)
        for name, tree in known.items()
        for found in imports(name, tree, name in packages)
    ]


def planned():
    """Dotted names of all modules that ORDER lists, whether they exist yet or not."""
    names = {f"tfrecipes.{room}" for room in ORDER}
    return names | {f"tfrecipes.{room}.{name}" for room, inside in ORDER.items() for name in inside}


def home(target, known):
    """The module of the package that an import's target lies in, or None if it is not ours."""
    names = planned() | set(known)
    while target:
        if target in names:
            return target
        target = target.rpartition(".")[0]
    return None
