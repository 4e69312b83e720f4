"""What each stage depends on: no less than it runs (stale results), no more (work done again for nothing)."""

import runpy
import shutil
import sys
from functools import partial
from pathlib import Path

import grimp
import pytest
import yaml

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
OTHERS = [name for name in STAGES if name != "code"]
GRAPH = grimp.build_graph("gapscope", cache_dir=None, exclude_type_checking_imports=True)


def digests(folder: Path) -> dict[str, dict[str, str]]:
    """Stage -> file -> its hash, as the stage `code` writes them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["code.py", "--out", "digests"])
        runpy.run_path("stages/code.py", run_name="__main__")
    found = {path.stem: path.read_text().splitlines() for path in (folder / "digests").glob("*.txt")}
    return {name: {line.split()[1]: line.split()[0] for line in lines} for name, lines in found.items()}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def whole(copy: Path) -> dict[str, dict[str, str]]:
    return digests(copy)


def file_of(module: str) -> str:
    path = Path("src", *module.split("."))
    return str(path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py"))


def test_every_script_is_a_stage() -> None:
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} == set(STAGES)
    assert {Path(next(iter(out))).stem for out in STAGES["code"]["outs"]} == set(OTHERS)


@pytest.mark.parametrize("name", OTHERS)
def test_a_stage_depends_on_its_own_digest_and_on_no_other_code(name: str) -> None:
    code = [dep for dep in STAGES[name]["deps"] if dep.startswith(("src/", "stages/", "digests/"))]
    assert code == [f"digests/{name}.txt"]


@pytest.mark.parametrize("name", OTHERS)
def test_a_digest_holds_what_the_stage_imports(name: str, whole: dict[str, dict[str, str]]) -> None:
    """Against grimp, which knows imports of the package's modules; packages' own `__init__` come on top."""
    found = {file for file in whole[name] if file.endswith(".py")}
    direct = {module for module in GRAPH.modules if file_of(module) in found}
    needed = direct.union(*(GRAPH.find_upstream_modules(module) for module in direct))
    assert found - {f"stages/{name}.py"} == {file_of(module) for module in needed}
    imported = {line.split()[1] for line in (ROOT / f"stages/{name}.py").read_text().splitlines() if "gapscope" in line}
    assert {file_of(module) for module in imported & set(GRAPH.modules)} <= found


def changed_by(copy: Path, before: dict[str, dict[str, str]], file: str) -> set[str]:
    text = (copy / file).read_text()
    (copy / file).write_text(text + "\n# edited\n")
    after = digests(copy)
    (copy / file).write_text(text)
    return {name for name in OTHERS if before[name] != after[name]}


def test_an_edit_changes_the_digests_of_the_stages_that_run_it(copy: Path, whole: dict[str, dict[str, str]]) -> None:
    changed = partial(changed_by, copy, whole)
    assert changed("src/gapscope/report/figure_tables.py") == {"plots", "curvature_report", "report"}
    assert changed("src/gapscope/drawing/gapscope.mplstyle") == {
        "plots", "random_matrices_report", "curvature_report", "landscape_report", "warmstart_report",
        "report",
    }  # fmt: skip
    assert changed("src/gapscope/papers/oyedotun2022/tables.csv") == {"tables", "plots"}
    assert changed("src/gapscope/numerics/hosvd/gram.py") == {"spectra", "controls"}
    # imported within a function
    assert changed("src/gapscope/training/loop.py") == {"train", "noise_scale", "warmstart", "plan"}
    assert changed("src/gapscope/numerics/loss_surface/landscape.py") == {"landscape", "plan"}
    assert changed("src/gapscope/report/landscape.py") == {"landscape_report", "report"}
    for kind in ("html.j2", "css", "js"):
        assert changed(f"src/gapscope/report/templates/report.{kind}") == {"report"}
    assert changed("src/gapscope/config.py") == {*OTHERS} - {"random_matrices_report", "report"}
    assert changed("stages/near_rank.py") == {"near_rank"}
    assert changed("src/gapscope/cli/run.py") == set()
    assert changed("src/gapscope/engine/cost.py") == set()


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_script_is_short(name: str) -> None:
    code = [line for line in (ROOT / "stages" / f"{name}.py").read_text().splitlines() if line.strip()]
    assert len(code) <= 70
