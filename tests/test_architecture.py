"""The house's structure: who may import whom, how long things may be, what is not used."""

import ast
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "skae"
FILES = sorted(PACKAGE.rglob("*.py"))

# Each floor may import the floors before it, and nothing else on its own floor.
FLOORS = [
    ["exceptions", "_version", "metrics"],
    ["_runtime", "_data", "objectives"],
    ["modules", "_latent", "_sklearn"],
    ["_engine", "_init", "quantization", "architectures"],
    ["_inference"],
    ["_training"],
    ["priors"],
    ["_estimators"],
    ["decomposition", "inspection"],
    ["__init__"],
]
RANKS = {unit: rank for rank, units in enumerate(FLOORS) for unit in units}
FREE_FOR_ALL = {"exceptions"}

BANNED = {
    "DataLoader": "its workers and its seeds are global; `_data.batches` feeds the rows",
    "fork_rng": "it is not thread-safe; `_runtime.random` makes a generator per fit",
    "torch.load": "it reads pickles, which can run code",
    "torch.save": "it writes pickles; fitted state is NumPy arrays",
    "set_num_threads": "it is global and outlives the fit; `_runtime.threads` has its own limits",
    "use_deterministic_algorithms": "it is global state of the caller's process",
}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80
MAX_FUNCTION_LINES_P95 = 40
MAX_TYPE_CHECKS = 15

# Where an import name is not the distribution's name.
IMPORT_NAMES = {"scikit-learn": "sklearn"}


def unit_of(path):
    """Return the ranked unit of a file, given by its path inside the package."""
    return path.parts[0].removesuffix(".py")


def imported_modules(tree, path):
    """Return the dotted names imported anywhere in the file at `path` inside the package."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += imported_from(node, path)
    return names


def imported_from(node, path):
    """Return the dotted names of one `from ... import ...`, which may name submodules."""
    home = ("skae", *path.parent.parts)
    base = home[: len(home) + 1 - node.level] if node.level else ()
    module = ".".join([*base, *([node.module] if node.module else [])])
    if module != "skae":
        return [module]
    return [f"skae.{alias.name}" for alias in node.names]


def imported_units(tree, path):
    """Return the units of the package that the file at `path` inside the package imports."""
    inside = [name.split(".") for name in imported_modules(tree, path)]
    inside = [parts[1:] for parts in inside if parts[0] == "skae"]
    return {parts[0] if parts and is_unit(parts[0]) else "__init__" for parts in inside}


def is_unit(name):
    """Tell submodules of the package from names that its `__init__` defines."""
    return name in RANKS or (PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir()


def ladder_violations(source, path):
    """Return a sentence for each import by which `source`, at `path`, climbs the ladder."""
    unit = unit_of(path)
    if unit not in RANKS:
        return [f"skae/{path} has no rank: give `{unit}` a floor in FLOORS of {__file__}"]
    imported = imported_units(ast.parse(source), path) - FREE_FOR_ALL - {unit}
    return [
        f"skae/{path} (floor {RANKS[unit]}) imports `{other}` (floor {RANKS.get(other, 'none')})"
        for other in sorted(imported)
        if RANKS.get(other, len(FLOORS)) >= RANKS[unit]
    ]


def dotted_names(tree):
    """Return every name that the code uses, attributes and imports written with their dots."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            names.add(ast.unparse(node))
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module or ''}.{alias.name}" for alias in node.names}
    return names


def banned_uses(source):
    """Return the banned names that `source` uses."""
    names = dotted_names(ast.parse(source))
    return [ban for ban in BANNED if any(f".{name}".endswith(f".{ban}") for name in names)]


def function_lengths(source):
    """Return the number of lines of each function in `source`, docstrings left out, by name."""
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return [(f.name, f.end_lineno - f.lineno + 1 - docstring_lines(f)) for f in functions]


def docstring_lines(function):
    """Return the number of lines of a function's docstring."""
    if ast.get_docstring(function) is None:
        return 0
    return function.body[0].end_lineno - function.body[0].lineno + 1


def declared_imports():
    """Return the import names of the declared dependencies and of the extra `plot`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = project["dependencies"] + project["optional-dependencies"]["plot"]
    names = [requirement.split(">=")[0].strip() for requirement in required]
    return {IMPORT_NAMES.get(name, name) for name in names}


def files():
    """Parametrize a test over the files of the package."""
    names = [path.relative_to(PACKAGE) for path in FILES]
    return pytest.mark.parametrize("path", names, ids=[name.as_posix() for name in names])


def read(path):
    """Return the source of the file at `path` inside the package."""
    return (PACKAGE / path).read_text(encoding="utf-8")


@files()
def test_imports_go_down_the_ladder(path):
    """A file imports only lower floors, so the package can be read from the bottom up."""
    assert not ladder_violations(read(path), path)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("_data/batches.py", "from .._training.loop import train"),
        ("_data/batches.py", "from skae._training.loop import train"),
        ("_data/batches.py", "import skae._training.loop as training"),
        ("_data/batches.py", "from skae import _training"),
        ("_data/batches.py", "from .. import _training"),
        ("_data/batches.py", "def f():\n    from .._estimators.base import Base"),
        ("_data/batches.py", "if TYPE_CHECKING:\n    from .._training.step import Step"),
        ("_data/batches.py", "from skae import load"),
        ("_data/batches.py", "import skae"),
        ("_data/batches.py", "from .._runtime.device import resolve_device"),
        ("priors.py", "from ._estimators.vae import VAETransformer"),
        ("modules/_mlp.py", "from .._sklearn.params import real"),
        ("modules/_mlp.py", "from .._engine.layers import perceptron"),
        ("objectives/_losses.py", "from skae.modules import MLP"),
    ],
)
def test_ladder_catches_upward_imports(path, source):
    """The checker finds an import of the same or a higher floor in whatever form it is written."""
    assert len(ladder_violations(source, Path(path))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "_training/loop.py",
            "from .._data.rows import dense\nfrom ..modules import MLP",
        ),
        ("_data/batches.py", "from ..exceptions import ConvergenceError\nfrom .rows import dense"),
        ("modules/_mlp.py", "from ._core import Core\nfrom .._runtime.random import normal"),
        ("modules/_mlp.py", "from . import _core\nfrom .. import modules"),
        ("__init__.py", "from ._estimators.vae import VAETransformer\nfrom . import metrics"),
    ],
)
def test_ladder_allows_downward_imports(path, source):
    """The checker leaves lower floors, a folder's own files and the exceptions alone."""
    assert ladder_violations(source, Path(path)) == []


def test_ladder_asks_for_a_rank():
    """A file that nobody has given a floor fails with the request to give it one."""
    (message,) = ladder_violations("import numpy", Path("_attic.py"))
    assert "give `_attic` a floor" in message


@files()
def test_third_party_imports_are_declared(path):
    """A file imports the standard library, skae and the declared dependencies, nothing else."""
    imported = {name.split(".")[0] for name in imported_modules(ast.parse(read(path)), path)}
    assert imported <= declared_imports() | sys.stdlib_module_names | {"skae"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "modules").glob("*.py")), ids=lambda p: p.name)
def test_modules_know_no_sklearn(path):
    """The networks are torch only and can be used without scikit-learn."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = imported_modules(tree, path.relative_to(PACKAGE))
    assert not [name for name in names if name.split(".")[0] == "sklearn"]


@files()
def test_private_constraints_have_one_reader(path):
    """What scikit-learn may change without notice is imported in one file."""
    names = imported_modules(ast.parse(read(path)), path)
    reads = any("_param_validation" in name for name in names)
    assert reads == (path == Path("_sklearn/params.py"))


@files()
def test_banned_names_are_not_used(path):
    """Nothing is used that changes the caller's process or reads and writes pickles."""
    assert {name: BANNED[name] for name in banned_uses(read(path))} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from torch.utils.data import DataLoader", ["DataLoader"]),
        ("torch.utils.data.DataLoader(rows)", ["DataLoader"]),
        ("with torch.random.fork_rng():\n    pass", ["fork_rng"]),
        ("from torch import load", ["torch.load"]),
        ("state = torch.load(path)", ["torch.load"]),
        ("state = np.load(path)\nself.save(path)", []),
    ],
)
def test_banned_names_are_caught(source, found):
    """The checker knows a banned name behind any prefix and keeps its namesakes apart."""
    assert banned_uses(source) == found


def lines_of_code(source):
    """Return the number of lines of `source` that are code: no docstrings, comments or blanks."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    skipped = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            skipped |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(
        bool(line.strip()) and line.strip()[0] != "#" for i, line in lines if i not in skipped
    )


@files()
def test_files_are_short(path):
    """A file fits into one reading, its documentation not counted."""
    assert lines_of_code(read(path)) <= MAX_FILE_LINES


def test_lines_of_code_leave_out_what_is_written_about_it():
    """Docstrings, comments and blank lines are not code."""
    assert lines_of_code('"""Module.\n\nMore.\n"""\n\n# comment\nx = 1\n') == 1


@files()
def test_functions_are_short(path):
    """A function fits on one screen."""
    long = [item for item in function_lengths(read(path)) if item[1] > MAX_FUNCTION_LINES]
    assert long == []


def checks_of_own_classes(sources):
    """Return the `isinstance` and `issubclass` calls that ask for a class defined in `sources`."""
    trees = [ast.parse(source) for source in sources]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    classes = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
    calls = [node for node in nodes if isinstance(node, ast.Call) and len(node.args) == 2]
    calls = [call for call in calls if ast.unparse(call.func) in ("isinstance", "issubclass")]
    return [ast.unparse(call) for call in calls if classes & names_in(call.args[1])]


def names_in(node):
    """Return the last parts of the names in an expression."""
    return {name.split(".")[-1] for name in dotted_names(node)}


def test_types_are_hardly_asked_for():
    """Parts say what they can do: few places ask what class of the package an object is."""
    checks = checks_of_own_classes(path.read_text(encoding="utf-8") for path in FILES)
    assert len(checks) < MAX_TYPE_CHECKS, checks


def test_type_checks_are_counted():
    """The checker sees own classes alone, in tuples, unions and modules, and no others."""
    source = "class A: ...\nclass B: ...\n"
    uses = "isinstance(x, A)", "isinstance(x, (int, m.B))", "issubclass(x, A | B)"
    others = "isinstance(x, int)", "isinstance(A(), str)"
    assert checks_of_own_classes([source, "\n".join([*uses, *others])]) == list(uses)


def test_most_functions_are_very_short():
    """Nineteen functions in twenty need no scrolling at all."""
    lengths = [
        length for path in FILES for _, length in function_lengths(path.read_text(encoding="utf-8"))
    ]
    assert np.percentile(lengths, 95) <= MAX_FUNCTION_LINES_P95


def test_function_length_leaves_out_the_docstring():
    """Documenting a function at length does not count against it."""
    source = 'def f(x):\n    """One.\n\n    Two.\n    """\n    y = x\n    return y\n'
    assert function_lengths(source) == [("f", 3)]


def test_the_root_is_small():
    """A newcomer sees a folder per question, and the public modules."""
    entries = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 22
