"""Stage code: for every other stage, the files that it runs and their hashes: what it depends on, no more and no less.

So an edit reruns the stages that import what was edited, and no others, and no list of modules is kept by hand.
"""

import argparse
import ast
import hashlib
from functools import cache
from pathlib import Path

SOURCE = Path("src")
PACKAGE = "gapscope"
READ = {  # files that a module reads and does not import
    "gapscope.papers.oyedotun2022.tables": ["papers/oyedotun2022/tables.csv"],
    "gapscope.papers.keskar2017.tables": ["papers/keskar2017/accuracy.csv", "papers/keskar2017/sharpness.csv"],
    "gapscope.claims.verdicts": ["claims/claims.yaml"],
    "gapscope.report.page": [f"report/templates/report.{kind}" for kind in ("html.j2", "css", "js")],
    "gapscope.report.figures": ["drawing/gapscope.mplstyle"],
    "gapscope.papers.oyedotun2022.random_matrices": ["papers/oyedotun2022/random_matrices.csv"],
}


@cache
def imported(path: Path) -> list[str]:
    """Return the package's modules that a file imports, at its top or within a function, and the names in them.

    Not what is imported for type checking only.
    """
    names: list[str] = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unread = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    tree.body = [node for node in tree.body if node not in unread]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] == PACKAGE]


def file_of(module: str) -> Path | None:
    """Return a module's file; None for what is no module of the package, such as a function in one."""
    path = SOURCE.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def needed(script: Path) -> list[Path]:
    """Return the script and all that it runs, sorted; a package's own `__init__` comes with its modules."""
    files, todo = {script}, [script]
    while todo:
        for module in imported(todo.pop()):
            parts = module.split(".")
            for name in (".".join(parts[:end]) for end in range(1, len(parts) + 1)):
                path = file_of(name)
                if path and path not in files:
                    files |= {path, *(SOURCE / PACKAGE / read for read in READ.get(name, []))}
                    todo.append(path)
    return sorted(files)


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write NAME.txt into, one a stage but this")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for script in sorted(set(Path("stages").glob("*.py")) - {Path("stages/code.py")}):
        lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]} {path.as_posix()}" for path in needed(script)]
        (out / f"{script.stem}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
