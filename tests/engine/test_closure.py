"""The hash of what a stage runs: blind to words and formatting, and to nothing else."""

from pathlib import Path

import grimp
import pytest

from gapscope.records import closure

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "gapscope"

MODULE = '''"""What it is."""

from typing import TYPE_CHECKING

from gapscope import other

if TYPE_CHECKING:
    from gapscope import typed


def area(side: float) -> float:
    """Return the area."""
    return side * side + other.ZERO  # of a square


class Square:
    """One of them."""

    side = 1.0
'''


def project(folder: Path, module: str = MODULE) -> Path:
    """A project with one stage, which runs `area` and `other`."""
    files = {
        "stages/square.py": "from gapscope.area import area\n\nprint(area(2.0))\n",
        "src/gapscope/__init__.py": '"""A package."""\n',
        "src/gapscope/area.py": module,
        "src/gapscope/other.py": "ZERO = 0.0\n",
        "src/gapscope/typed.py": "X = 1\n",
        "src/gapscope/unused.py": "X = 1\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_the_closure_is_the_script_and_what_it_imports(tmp_path: Path) -> None:
    found = {path.relative_to(tmp_path).as_posix() for path in closure.closure("square", project(tmp_path))}
    assert found == {
        "stages/square.py", "src/gapscope/__init__.py", "src/gapscope/area.py", "src/gapscope/other.py",
    }  # fmt: skip


def test_bytecode_is_no_file_that_a_module_opens(tmp_path: Path) -> None:
    opens = 'from importlib.resources import files\n\nTABLES = files("gapscope") / "*"\n'
    folder = project(tmp_path, opens)
    (folder / "src/gapscope/table.csv").write_text("a\n")
    before = closure.closure_hash("square", folder)
    cache = folder / "src/gapscope/__pycache__"
    cache.mkdir()
    (cache / "area.pyc").write_bytes(b"bytecode")
    (folder / "src/gapscope/stray.pyc").write_bytes(b"bytecode")
    names = {path.name for path in closure.closure("square", folder)}
    assert "table.csv" in names
    assert not {name for name in names if name.endswith(".pyc")}
    assert closure.closure_hash("square", folder) == before


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("Return the area.", "Return the area of a square, whose sides are equal."),
        ('    """Return the area."""\n', ""),
        ('"""What it is."""', '"""What it is, in other words."""'),
        ('    """One of them."""\n\n', ""),
        ("  # of a square", ""),
        ("side * side + other.ZERO", "(\n        side\n        * side + other.ZERO\n    )"),
        ("    from gapscope import typed", "    from gapscope import unused"),
    ],
)
def test_words_and_formatting_change_no_hash(tmp_path: Path, was: str, becomes: str) -> None:
    assert was in MODULE
    before = closure.closure_hash("square", project(tmp_path / "a"))
    assert closure.closure_hash("square", project(tmp_path / "b", MODULE.replace(was, becomes))) == before


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("side * side", "side + side"),
        ("side * side + other.ZERO", "side * (side + other.ZERO)"),
        ("side = 1.0", "side = 1"),
        ("side: float", "side: int"),
        ("from gapscope import other", "from gapscope import unused as other"),
        ("return side", "'a string that is no docstring'\n    return side"),
    ],
)
def test_a_changed_formula_changes_the_hash(tmp_path: Path, was: str, becomes: str) -> None:
    assert was in MODULE
    before = closure.closure_hash("square", project(tmp_path / "a"))
    assert closure.closure_hash("square", project(tmp_path / "b", MODULE.replace(was, becomes))) != before


def test_what_another_module_does_counts_and_a_module_that_is_not_run_does_not(tmp_path: Path) -> None:
    before = closure.closure_hash("square", project(tmp_path))
    for name in ("typed", "unused"):
        (tmp_path / f"src/gapscope/{name}.py").write_text("X = 2\n")
    assert closure.closure_hash("square", tmp_path) == before
    (tmp_path / "src/gapscope/other.py").write_text("ZERO = 1.0\n")
    assert closure.closure_hash("square", tmp_path) != before


def test_a_module_named_in_a_string_is_run(tmp_path: Path) -> None:
    project(tmp_path, MODULE + '\nMEASURES = {"unused": "gapscope.unused:X"}\n')
    assert tmp_path / "src/gapscope/unused.py" in closure.closure("square", tmp_path)


def test_a_package_that_imports_its_modules_by_name_counts_with_all_of_them_if_it_is_imported_by_itself(
    tmp_path: Path,
) -> None:
    project(tmp_path, MODULE + "\n\ndef every():\n    from gapscope import shapes\n")
    package = tmp_path / "src/gapscope/shapes"
    package.mkdir()
    (package / "__init__.py").write_text("NAMES = ()\n")
    (package / "circle.py").write_text("PI = 3.0\n")
    assert package / "circle.py" not in closure.closure("square", tmp_path)
    load = 'from importlib import import_module\n\n\ndef load(name):\n    return import_module(f"{__name__}.{name}")\n'
    (package / "__init__.py").write_text(load)
    assert package / "circle.py" in closure.closure("square", tmp_path)
    (tmp_path / "src/gapscope/area.py").write_text(MODULE + "\n\ndef one():\n    from gapscope.shapes import other\n")
    assert package / "circle.py" not in closure.closure("square", tmp_path)


@pytest.mark.parametrize(
    "opened",
    [
        'files("gapscope.tables") / "table3.csv"',
        'resources.files("gapscope.tables") / f"table{number}.csv"',
        'files("gapscope.tables") / name',
        'files("gapscope") / folder / name',
    ],
)
def test_a_file_that_is_opened_counts(tmp_path: Path, opened: str) -> None:
    project(tmp_path, f"{MODULE}\n\ndef opened(number, name):\n    return {opened}\n")
    file = tmp_path / "src/gapscope/tables/table3.csv"
    file.parent.mkdir()
    file.write_text("a\n1\n")
    before = closure.closure_hash("square", tmp_path)
    file.write_text("a\n2\n")
    assert closure.closure_hash("square", tmp_path) != before


def test_every_file_of_the_package_is_found_with_the_module_that_opens_it() -> None:
    """A file that no module is found to open could change without a trace."""
    opened = {file for module in PACKAGE.rglob("*.py") for file in closure.files_read(module, ROOT)}
    there = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {path.relative_to(PACKAGE).as_posix() for path in there - opened} <= {"py.typed"}


@pytest.mark.parametrize("stage", closure.stages(ROOT))
def test_the_closure_holds_what_grimp_finds(stage: str) -> None:
    """A second implementation, which knows the imports of modules but not those of scripts."""
    graph = grimp.build_graph("gapscope", exclude_type_checking_imports=True)
    found = closure.closure(stage, ROOT)
    own = {module_of(path) for path in found if path.suffix == ".py" and PACKAGE in path.parents}
    upstream = {name for module in own for name in graph.find_upstream_modules(module)}
    assert upstream <= own


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
