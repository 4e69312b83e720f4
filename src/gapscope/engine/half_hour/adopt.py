"""Bringing a pack home: all is checked first, then files are put in place, and DVC commits them stage by stage.

DVC itself hashes every file that is there, reads the params, and writes its lock, as `dvc commit` does. Activations,
and weights that did not fit, are not there. For them it gets the MD5 of each file, measured where they were made. So
its lock is the one that a clone has after a run elsewhere.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from gapscope import lock_copy
from gapscope.config import revision
from gapscope.engine import runner
from gapscope.engine.half_hour.marks import Digest, digest
from gapscope.engine.half_hour.pack import contents, read_manifest
from gapscope.engine.half_hour.prepare import Compose, make_data, params_kept
from gapscope.engine.proofs.versions import in_history, unpacked
from gapscope.errors import InputError
from gapscope.records.closure import closure_hash
from gapscope.records.files import atomic_path

FREE = ("runtime",)  # groups of params that no result depends on


def adopt(folder: Path, composed: Callable[[list[str]], str], compose: Compose) -> list[str]:
    """Check a pack, put its files in place, have DVC commit the finished stages, and return in words what was done.

    Args:
        folder: with the pack.
        composed: arguments of `gapscope compose` -> the text of params.yaml.
        compose: `gapscope compose`.

    Raises:
        InputError: the pack is damaged, or was made by other code, params or data. Then nothing is changed.
    """
    manifest = read_manifest(folder)
    files = contents(folder, manifest)
    _check_code(manifest, files)
    for item in manifest["items"]:
        _check_params(item, composed(item["overrides"]))
    lines, digests = [], {out: found for mark in manifest["stages"].values() for out, found in mark["outs"].items()}
    with params_kept():
        for index, item in enumerate(manifest["items"]):
            finished = {name: mark for name, mark in manifest["stages"].items() if mark["item"] == index}
            if not finished:
                continue
            compose(item["overrides"])
            make_data()
            _check_data(manifest["data"])
            graph, _ = runner.changed()
            news = {name: mark for name, mark in finished.items() if name in graph}
            for out in (out for mark in news.values() for out in mark["outs"] if out in files):
                _put(out, files[out])
            _commit(list(news), digests)
            lines.append(f"{item['study']}: {len(news)} finished stages committed, "
                         f"{len(finished) - len(news)} were up to date already")  # fmt: skip
    others = [path for path in files if path.startswith(("data/checkpoints/", "data/gpu/"))]
    for path in others:
        _put(path, files[path])
    lines.append(f"{sum(path.startswith('data/checkpoints/') for path in others)} checkpoints of unfinished runs")
    return [*lines, *(f"left out of the pack: {file['path']}" for file in manifest["left_out"])]


def _check_code(manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    commit = manifest["commit"]
    if not in_history(commit):
        raise InputError(f"the pack is of commit {commit}, which is not in the history of HEAD")
    with tempfile.TemporaryDirectory() as temporary:
        root = unpacked(commit, Path(temporary)).folder
        for name in {addressing.partition("@")[0] for addressing in manifest["stages"]}:
            code, now = closure_hash(name, root), revision(name)
            for addressing, mark in manifest["stages"].items():
                if addressing.partition("@")[0] != name:
                    continue
                made = [mark, *(json.loads(files[out]) for out in mark["outs"] if out.startswith("provenance/")
                                and out in files)]  # fmt: skip
                for facts in made:
                    if facts["commit"] != commit or facts["code"] != code:
                        raise InputError(f"{addressing} was made by other code than that of commit {commit}")
                    if facts["revision"] != now:
                        raise InputError(f"{addressing} is of revision {facts['revision']}, and {name} is at {now} now")


def _check_params(item: Mapping[str, Any], now: str) -> None:
    there, here = yaml.safe_load(item["params"]), yaml.safe_load(now)
    if changed := [key for key in {**there, **here} if key not in FREE and there.get(key) != here.get(key)]:
        raise InputError(f"{item['study']} ran with other params: {', '.join(changed)}")


def _check_data(data: Mapping[str, Digest]) -> None:
    for file, found in data.items():
        if Path(file).exists() and digest(Path(file)) != found:
            raise InputError(f"the results are of another {file} than the one here")


def _put(path: str, content: bytes) -> None:
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(content)


def _commit(names: list[str], digests: Mapping[str, Digest]) -> None:
    """Have DVC hash what is there and write its lock, as `dvc commit` does, for stages whose commands ran elsewhere."""
    from dvc.repo import Repo, lock_repo

    if not names:
        return
    with Repo() as repo, lock_repo(repo):
        stages = [stage for stage in repo.index.stages if stage.addressing in names]
        for stage in stages:
            missing = [file for file in (*stage.deps, *stage.outs) if not file.exists]
            for file in missing:
                path = Path(file.fs_path).relative_to(repo.root_dir).as_posix()
                if path not in digests:
                    raise InputError(
                        f"{stage.addressing} reads or writes {path}, which is neither here nor in the pack"
                    )
                file.hash_info, file.meta = _dvc_digest(digests[path])
            stage.save(allow_missing=True, run_cache=not missing)
            stage.commit(allow_missing=True)
        stages[0].dvcfile.dump_stages(stages, update_pipeline=False)
    lock_copy.copy_whole()


def _dvc_digest(found: Digest) -> tuple[Any, Any]:
    """Return DVC's own digest and size of a file or folder, from the MD5 of its files."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta
    from dvc_data.hashfile.tree import Tree

    if "md5" in found:
        return HashInfo("md5", found["md5"]), Meta(size=found["size"])
    tree = Tree()
    for path, file in found["files"].items():
        tree.add(tuple(path.split("/")), Meta(size=file["size"]), HashInfo("md5", file["md5"]))
    tree.digest()
    size = sum(file["size"] for file in found["files"].values())
    return tree.hash_info, Meta(size=size, nfiles=len(found["files"]))
