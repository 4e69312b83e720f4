"""The code that a stage runs, as one hash: its script, every module that it imports, every file that these read.

Code with equal hashes does the same: comments, docstrings, formatting and imports for type checking are left out. A
stage's results belong to a revision (`revisions.yaml`), not to this hash. The hash tells whether the revision was
proved for the present code (`gapscope verify --check`).

The files are found in the code; no list of them is kept. Imports within functions count, and so do modules named in a
string (`"gapscope.measures.curvature"`). Some packages import their modules by name, as in
`import_module(f"{__name__}.{name}")`. Such a package counts with all its modules if it is imported itself, as in
`from gapscope import measures`. A file of the package counts if a module opens it in one of two ways:

- `files("gapscope.claims") / "claims.yaml"`; the fields of an f-string may stand for any text;
- `PackageLoader("gapscope.report")`, which stands for all files in `report/templates`.
"""

import ast
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

PACKAGE = "gapscope"
MODULE = re.compile(rf"{PACKAGE}(\.\w+)+", re.ASCII)
WHOLE = "*"  # in place of a module's name: the package itself
DIGITS = 16  # hexadecimal digits that are kept of a hash
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class _Code:
    """The facts about one module.

    Attributes:
        digest: hash of its syntax tree.
        modules: the modules that it names.
        opens: the files that it opens, each as a package and a pattern within the package's folder.
    """

    digest: str
    modules: tuple[str, ...]
    opens: tuple[tuple[str, str], ...]


def closure_hash(stage: str, root: Path = Path()) -> str:
    """Return the hash of the code that a stage runs.

    Args:
        stage: its name; its script is `stages/STAGE.py`.
        root: the folder that holds `stages` and `src`; without `src`, the code is that of the installed package.
    """
    hashes = {_place(path, root): content_hash(path) for path in closure(stage, root)}
    parts = [f"{place} {hashes[place]}" for place in sorted(hashes)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:DIGITS]


def closure(stage: str, root: Path = Path()) -> list[Path]:
    """Return the files that a stage runs and reads, sorted: its script, modules with their packages, data files."""
    script = root / "stages" / f"{stage}.py"
    files, todo = {script}, [script]
    while todo:
        path = todo.pop()
        for module in _code(path.read_bytes()).modules:
            for other in _files_of(module, root):
                if other not in files:
                    files.add(other)
                    todo.append(other)
        files |= set(files_read(path, root))
    return sorted(files)


def stages(root: Path = Path()) -> list[str]:
    """Return the names of the stages, which are those of the scripts."""
    return sorted(path.stem for path in (root / "stages").glob("*.py"))


def files_read(module: Path, root: Path = Path()) -> list[Path]:
    """Return the package's files that a module opens."""
    candidates = [
        file
        for package, pattern in _code(module.read_bytes()).opens
        for file in _packages(root).joinpath(*package.split(".")).glob(pattern)
    ]
    return sorted(file for file in candidates if file.is_file() and file.suffix != ".pyc")


def content_hash(path: Path) -> str:
    """Return the hash of a file's meaning: the syntax tree of a Python file, the bytes of any other."""
    content = path.read_bytes()
    return _code(content).digest if path.suffix == ".py" else hashlib.sha256(content).hexdigest()


@cache
def _code(source: bytes) -> _Code:
    tree = _tree(source)
    modules, opens = list[str](), list[tuple[str, str]]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            modules += [f"{PACKAGE}.{alias.name}.{WHOLE}" for alias in node.names if node.module == PACKAGE]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            modules += [node.value.partition(":")[0]] if MODULE.fullmatch(node.value.partition(":")[0]) else []
        elif isinstance(node, ast.BinOp):
            opens += _opened(node)
        elif package := _argument(node, "PackageLoader"):
            opens.append((package, "templates/**/*"))
    own = dict.fromkeys(name for name in modules if name.split(".")[0] == PACKAGE)
    return _Code(hashlib.sha256(_dump(tree).encode()).hexdigest(), tuple(own), tuple(opens))


def _tree(source: bytes) -> ast.Module:
    """Return a module's syntax tree without docstrings and without imports for type checking."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _has_docstring(
            node
        ):
            node.body = node.body[1:]
    tree.body = [n for n in tree.body if not (isinstance(n, ast.If) and ast.unparse(n.test).endswith("TYPE_CHECKING"))]
    return tree


def _has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _dump(node: object) -> str:
    """Return a syntax tree as text, fields in order; empty fields are left out, since Python versions differ there."""
    if isinstance(node, ast.Constant):
        return repr(node.value)
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields)
        shown = (f"{name}={_dump(value)}" for name, value in fields if value is not None and value != [])
        return f"{type(node).__name__}({','.join(shown)})"
    if isinstance(node, list):
        return f"[{','.join(map(_dump, node))}]"
    return repr(node)


def _files_of(module: str, root: Path) -> list[Path]:
    """Return a module's file and those of the packages around it; for a package itself, also the modules by name."""
    *parts, last = module.split(".")
    names = [".".join(parts[:end]) for end in range(1, len(parts) + 1)] + ([] if last == WHOLE else [module])
    files = [path for name in names if (path := _file_of(name, root))]
    if last == WHOLE and files and files[-1].name == "__init__.py" and _imports_by_name(files[-1].read_bytes()):
        files += sorted(files[-1].parent.glob("*.py"))
    return files


def _imports_by_name(source: bytes) -> bool:
    return any(
        isinstance(node, ast.Call) and ast.unparse(node.func) == "import_module" and "{__name__}." in ast.unparse(node)
        for node in ast.walk(_tree(source))
    )


def _packages(root: Path) -> Path:
    """Return the folder that holds the package: that of a clone, else the one that this package is installed in."""
    own = root / "src"
    return own if (own / PACKAGE).is_dir() else Path(__file__).parents[2]


def _place(path: Path, root: Path) -> PurePosixPath:
    """Return where a file lies in a clone, also if it belongs to an installed package."""
    packages = _packages(root)
    own = path.is_relative_to(packages)
    return PurePosixPath("src", path.relative_to(packages)) if own else PurePosixPath(path.relative_to(root))


def _file_of(module: str, root: Path) -> Path | None:
    """Return a module's file; None for a name that is not a module, such as that of a function."""
    path = _packages(root).joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def _opened(node: ast.BinOp) -> list[tuple[str, str]]:
    """Return the package and the pattern of `files("package") / part / part`; nothing for another expression."""
    left, parts = node.left, [_pattern(node.right)]
    while isinstance(left, ast.BinOp):
        parts.insert(0, _pattern(left.right))
        left = left.left
    package = _argument(left, "files")
    return [(package, "/".join(parts))] if package else []


def _argument(node: ast.AST, function: str) -> str | None:
    """Return the package that a call of `function` names; None for other nodes."""
    if not (isinstance(node, ast.Call) and node.args):
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    package = node.args[0]
    return str(package.value) if called == function and isinstance(package, ast.Constant) else None


def _pattern(node: ast.AST) -> str:
    """Return the pattern of a file's name, with `*` for each field of an f-string."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "*" for v in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "*"
