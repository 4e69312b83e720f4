"""dvc.yaml declares what each stage depends on: no less (stale results), no more (work done again for nothing)."""

import ast
from pathlib import Path

import grimp
import pytest
import yaml

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
GRAPH = grimp.build_graph("gapscope", cache_dir=None)


def imported_by(script: str) -> set[str]:
    """Every module of the package that a script imports, directly or not, at its top or within a function."""
    direct: set[str] = set()
    for node in ast.walk(ast.parse(script)):
        if isinstance(node, ast.Import):
            direct |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            direct |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    modules = direct & GRAPH.modules
    return modules.union(*(GRAPH.find_upstream_modules(module) for module in modules)) - {"gapscope"}


def file_of(module: str) -> Path:
    path = ROOT / "src" / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def is_bare(path: Path) -> bool:
    """Whether a module does nothing: a docstring alone."""
    return all(isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)


def needed_files(script: str) -> set[Path]:
    files = {file_of(module) for module in imported_by(script)}
    return {path for path in files if not is_bare(path)}


def declared_files(deps: list[str]) -> set[Path]:
    sources = [ROOT / dep for dep in deps if dep.startswith("src/")]
    files = {file for path in sources for file in ([path] if path.is_file() else path.rglob("*.py"))}
    return {path for path in files if path.suffix == ".py" and not is_bare(path)}


def test_every_script_is_a_stage() -> None:
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} == set(STAGES)


@pytest.mark.parametrize("name", STAGES)
def test_deps_are_exactly_what_the_stage_imports(name: str) -> None:
    script = ROOT / "stages" / f"{name}.py"
    assert f"stages/{name}.py" in STAGES[name]["deps"]
    assert declared_files(STAGES[name]["deps"]) == needed_files(script.read_text())


def test_an_import_within_a_function_is_seen() -> None:
    script = "def main():\n    from gapscope.measure import sharpness\n"
    assert ROOT / "src/gapscope/measure/sharpness.py" in needed_files(script)
    assert ROOT / "src/gapscope/seeds.py" in needed_files(script)  # imported by sharpness


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_script_is_short(name: str) -> None:
    code = [line for line in (ROOT / "stages" / f"{name}.py").read_text().splitlines() if line.strip()]
    assert len(code) <= 70
