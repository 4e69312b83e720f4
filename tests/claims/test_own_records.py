"""Claims on a measure's own records: one per seed or run, over images, over the share discarded, or one value."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from made_up_runs import MARGINS

from gapscope import papers
from gapscope.claims.claim import Claim, Measured, read_claims
from gapscope.claims.evidence import Evidence, read_evidence
from gapscope.claims.verdicts import ClaimSettings, evaluate
from gapscope.config import load_params
from gapscope.errors import InputError

ROOT = Path(__file__).parents[2]
SETTINGS = ClaimSettings(arm="plain", reference="x", level=0.02)
LAYERS = ("dense.1.layer.weight", "dense.3.layer.weight")


def claim(test: str, quantity: str, where: dict[str, Any], unit: str, **more: Any) -> Claim:
    about = {"measure": "gradient_law", "over": "images", "margin": MARGINS.get(unit), **more}
    return Claim("a", "It does, after {epoch} epochs", "nowhere", test, Measured(quantity, where), unit, **about)


def records(**more: Any) -> pd.DataFrame:
    """E|g| of two layers at five n, and one value per seed; the first layer falls as n^-1/2, the second not at all."""
    rows = []
    for seed in range(4):
        about = {"model": "alexnet", "dataset": "cifar10", "seed": seed, "device": "cpu (x)", "epoch": 0, **more}
        draw = np.random.default_rng(seed)
        for place, layer in enumerate(LAYERS):
            at = {**about, "layer": layer}
            width = 0.5 * np.exp(0.1 * draw.normal())
            mu2 = {"quantity": "mu2", "value": place * 2 * width + 0.1 * draw.normal()}
            rows.append({**at, **mu2, "low": mu2["value"] - width, "high": mu2["value"] + width})
            for n in (32, 64, 128, 256, 512):
                value = n ** (-0.5 * (1 - place)) * np.exp(0.005 * draw.normal())
                rows.append({**at, "images": n, "quantity": "mean_abs", "value": value})
    return pd.DataFrame(rows).astype({"images": "Int64"})


def row(about: Claim, table: pd.DataFrame, measures: frozenset[str] = frozenset({"gradient_law"})) -> pd.Series:
    runs = pd.DataFrame({"model": "alexnet", "dataset": "cifar10", "batch_size": [32, 128], "seed": 0, "status": "ok"})
    values = runs.assign(quantity="updates", value=1.0)
    found = Evidence(values, runs, measures, {"gradient_law": table})
    rows = evaluate([about], found, found, SETTINGS)
    return rows.iloc[0] if len(rows) else pd.Series({"verdict": "absent"})


LAW = {"test": "follows_power", "quantity": "mean_abs", "unit": "exponent", "value": -0.5}


@pytest.mark.parametrize(("layer", "said"), [(LAYERS[0], "supported"), (LAYERS[1], "contradicted")])
def test_a_law_over_images_is_tested_over_seeds(layer: str, said: str) -> None:
    found = row(claim(**LAW, where={"layer": layer}), records())
    assert (found["verdict"], found["n"], found["seeds"]) == (said, 4, "0-3")
    assert found["levels"] == "32, 64, 128, 256"


def test_of_several_names_the_first_that_a_network_has_is_taken() -> None:
    about = claim(**LAW, where={"layer": ["dense.0.layer.weight", *LAYERS]})
    assert row(about, records())["verdict"] == "supported"
    other = records().replace({"layer": {LAYERS[0]: "conv"}})
    found = row(about, other)
    assert found["verdict"] == "contradicted"  # the second dense layer, as the first has another name
    assert found["layer"] == " or ".join(["dense.0.layer.weight", *LAYERS])
    both = pd.concat([records(), records(model="lenet5").replace({"layer": {LAYERS[0]: "dense.0.layer.weight"}})])
    assert row(about, both)["verdict"] == "supported"  # each network by its own name


def test_one_value_per_seed_counts_in_halves_of_its_own_interval() -> None:
    about = {"test": "equals", "quantity": "mu2", "unit": "half-widths", "value": 0.0, "over": "none"}
    zero, above = (row(claim(**about, where={"layer": layer}, own_interval=True), records()) for layer in LAYERS)
    assert (zero["verdict"], above["verdict"]) == ("undecided", "contradicted")
    assert above["effect"] == pytest.approx(2, abs=0.3)
    raw = row(claim(**about, where={"layer": LAYERS[1]}), records())
    assert raw["effect"] == pytest.approx(1, abs=0.3)


def test_of_records_with_a_batch_size_the_smallest_one_counts() -> None:
    both = pd.concat([records(batch_size=32), records(batch_size=128).assign(value=1.0)])
    assert row(claim(**LAW, where={"layer": LAYERS[0]}), both)["verdict"] == "supported"
    with pytest.raises(InputError, match="epoch"):  # an axis that is left open
        row(claim(**LAW, where={"layer": LAYERS[0]}), pd.concat([records(), records(epoch=3)]))


def test_a_claim_of_a_measure_belongs_to_the_studies_that_list_it() -> None:
    about = claim(**LAW, where={"layer": LAYERS[0]})
    assert row(about, records(), frozenset())["verdict"] == "absent"
    assert row(about, records().iloc[:0])["verdict"] == "not testable"
    assert row(claim(**LAW, where={"layer": "none"}), records())["verdict"] == "not testable"


def test_the_records_of_a_study_are_read_by_seed_and_by_run() -> None:
    for study, measure, by in (("gao_quick", "gradient_law", "seed"), ("gao_radius", "curvature_radius", "batch_size")):
        folder = ROOT / "metrics" / study
        found = read_evidence(folder, load_params(folder / "params.yaml"), papers.claims())
        files = sorted((folder / measure).glob("*.csv"))
        assert set(found.records) == {measure}
        table = found.records[measure]
        assert len(table) == sum(len(pd.read_csv(path)) for path in files)
        assert by in table
        assert len(table[["model", "dataset", *{by, "seed"}]].drop_duplicates()) == len(files)
    assert not read_evidence(
        ROOT / "metrics/quick", load_params(ROOT / "metrics/quick/params.yaml"), papers.claims()
    ).records


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


ENTRY = {"name": "a", "statement": "b", "source": "c", "test": "rises", "quantity": "q", "unit": "points"}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"test": "equals"}, "value"),
        ({"value": 1.0}, "value"),
        ({"only": 128}, "only"),
        ({"over": "images"}, "measure"),
        ({"margin": {"value": 0.5}}, "because"),
        ({"margin": {"value": 0.5, "becuase": "x"}}, "becuase"),
    ],
)
def test_a_key_that_a_test_does_not_take_or_lacks_is_named(changed: dict[str, Any], named: str) -> None:
    assert read_claims(yaml.safe_dump([ENTRY]), "x")
    with pytest.raises(InputError, match=named):
        read_claims(yaml.safe_dump([{**ENTRY, **changed}]), "x")


def test_gao_and_zhongs_arms_wait_for_their_studies() -> None:
    waiting = {of.arm for of in papers.claims() if of.paper == "gao_zhong"} - {"plain"}
    assert waiting == {
        "discarding", "discarding_control", "first_epoch", "first_epoch_control", "layerwise", "mclr", "warmup"
    }  # fmt: skip
    primary = [of.name for of in papers.claims() if of.paper == "gao_zhong" and of.family == "primary"]
    assert len(primary) == 5  # as listed beforehand
