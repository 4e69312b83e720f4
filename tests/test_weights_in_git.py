"""Weights that are in git: a DVC remote in the folder `weights/`, from which a clone takes them."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.test_pipeline import ROOT, run

STORE = ROOT / "weights/files/md5"
STUDIES = ("table05_new_seeds",)  # whose weights are kept; docs/dvc.md names them


def weights(study: str) -> Iterator[tuple[str, str]]:
    """Yield path and MD5 of the weights that a study's committed lock names."""
    for name, stage in yaml.safe_load((ROOT / f"locks/{study}.lock").read_text())["stages"].items():
        if name.startswith("train@"):
            yield next((out["path"], out["md5"]) for out in stage["outs"] if out["path"].endswith(".safetensors"))


def test_the_store_holds_the_weights_of_these_studies_and_no_others() -> None:
    named = {digest for study in STUDIES for _, digest in weights(study)}
    held = {path.parent.name + path.name: path for path in STORE.glob("*/*")}
    assert set(held) == named
    assert {hashlib.md5(path.read_bytes()).hexdigest() for path in held.values()} == named


@pytest.mark.integration
@pytest.mark.parametrize("study", STUDIES)
def test_a_clone_pulls_them_and_has_their_networks(tmp_path: Path, study: str) -> None:
    from gapscope.records.weights import read_weights

    folder = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", "--depth", "1", f"file://{ROOT}", str(folder))
    run(folder, "gapscope", "compose", f"study={study}")
    first, *others = [path for path, _ in weights(study)]
    run(folder, "dvc", "pull", "--allow-missing", first)
    as_run_does = "from gapscope.engine import kept_weights; kept_weights.fetch()"
    said = run(folder, "python", "-c", as_run_does)
    assert said.startswith(f"weights of {len(others)} trained networks")
    for path in (first, *others):
        state, header = read_weights(folder / path)
        assert state
        assert header["seed"] not in (0, 1, 2)
