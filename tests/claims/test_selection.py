"""What a claim selects: quantities and axes of the long table, one test per value, and what is not there."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from made_up_runs import PLAIN, SIZES, evidence, made_up
from scripts import run

from gapscope import papers
from gapscope.claims import verdicts
from gapscope.claims.claim import Claim, Measured, read_claims
from gapscope.claims.evidence import Evidence, read_evidence
from gapscope.claims.verdicts import ClaimSettings, evaluate
from gapscope.errors import InputError
from gapscope.records.long import AXES
from gapscope.records.tables import read_table, write_table
from migrations import runs as migrated

ROOT = Path(__file__).parents[2]
DIGITS = 1e-8  # relative: records keep ten significant digits, and a difference of two may lose two of them
COUNT = Claim(
    name="count_rises", statement="It rises (≤ {threshold})", source="nowhere", test="rises", unit="values",
    measured=Measured("near_rank_excess", {"sample": "run", "relative": False}), each=("threshold",), family="primary",
)  # fmt: skip


def counts(thresholds: dict[float, float], sample: str = "run", relative: bool = False) -> Evidence:
    """Counts at several thresholds, each rising by its own step."""
    runs = made_up(0.5, 0.2, seeds=3)
    keys = runs[["model", "dataset", "batch_size", "seed"]]
    level = runs["batch_size"].map(SIZES.index)
    axes = {"quantity": "near_rank_excess", "sample": sample, "relative": relative}
    rows = [
        keys.assign(**axes, threshold=threshold, value=step * level + runs["seed"] * 0.1)
        for threshold, step in thresholds.items()
    ]
    return Evidence(pd.concat(rows, ignore_index=True), runs)


def outcomes(claim: Claim, found: Evidence, **settings: Any) -> pd.DataFrame:
    return evaluate([claim], found, found, ClaimSettings(**{**vars(PLAIN), **settings}))


def test_one_entry_is_tested_at_every_threshold_that_the_study_has() -> None:
    rows = outcomes(COUNT, counts({1e-3: 1.0, 1e-4: -2.0, 1e-5: 0.0}))
    assert rows["threshold"].tolist() == [1e-3, 1e-4, 1e-5]
    assert rows["effect"].tolist() == pytest.approx([5.0, -10.0, 0.0])
    assert rows["verdict"].tolist() == ["supported", "contradicted", "undecided"]
    assert rows["family"].tolist() == ["primary", "twin", "twin"]
    assert [("1e-3" in text, "1e-5" in text) for text in rows["statement"]] == [
        (True, False), (False, False), (False, True)
    ]  # fmt: skip


def test_of_a_first_axis_the_studys_first_value_alone_is_tested() -> None:
    first = Claim(**{**vars(COUNT), "each": (), "first": ("threshold",)})
    rows = outcomes(first, counts({1e-5: 1.0, 1e-4: -2.0}))
    assert rows[["threshold", "effect"]].values.tolist() == [[1e-5, pytest.approx(5.0)]]


def test_of_several_quantities_the_first_that_the_study_has_is_tested() -> None:
    """A study that searches for the sharpest point until it converges is tested on that, others on ten iterations."""
    keskar = next(claim for claim in papers.claims() if claim.name == "sharpness_rises")
    plain = made_up(0.5, 0.2, seeds=3)
    keys = plain[["model", "dataset", "batch_size", "seed"]]
    axes = {"split": "train", "space": "full", "epsilon": 1e-3}
    level = plain["batch_size"].map(SIZES.index)
    rows = {
        name: keys.assign(quantity=name, **axes, value=np.exp(step * level + 0.01 * plain["seed"]))
        for name, step in (("sharpness_pct", 1.0), ("sharpness_converged_pct", -1.0))
    }
    both = outcomes(keskar, Evidence(pd.concat(rows.values(), ignore_index=True), plain))
    ten = outcomes(keskar, Evidence(rows["sharpness_pct"], plain))
    assert both[["quantity", "verdict"]].values.tolist() == [["sharpness_converged_pct", "contradicted"]]
    assert ten[["quantity", "verdict"]].values.tolist() == [["sharpness_pct", "supported"]]


def test_a_changed_threshold_loses_no_claim_and_no_test() -> None:
    """With `thresholds=[1.0e-3]` every claim about a count is tested there."""
    found, _ = committed("quick")
    moved = found.values.assign(threshold=found.values["threshold"].replace({1e-4: 1e-3}))
    moved = moved[moved["threshold"].isna() | (moved["threshold"] == 1e-3)]
    before, after = (evaluate(papers.claims(), of, of, PLAIN) for of in (found, Evidence(moved, found.runs)))
    assert set(after["claim"]) == set(before["claim"])
    at = tuple(rows[rows["verdict"] != "not tested"] for rows in (before, after))
    at = at[0][at[0]["threshold"] == 1e-4], at[1][at[1]["threshold"] == 1e-3]
    assert len(at[0]) == len(at[1]) > 5
    assert at[0]["p"].tolist() == at[1]["p"].tolist()
    assert (at[1]["verdict"] != "not testable").all()


@pytest.mark.parametrize(
    ("found", "named"),
    [
        (counts({1e-4: 1.0}, sample="probe"), "run"),
        (counts({1e-4: 1.0}, relative=True), "relative"),
        (Evidence(pd.DataFrame(), made_up(0.5, 0.2, seeds=3)), "near_rank_excess"),
        (Evidence(counts({1e-4: 1.0}).values.assign(value=np.nan), made_up(0.5, 0.2, seeds=3)), "near_rank_excess"),
    ],
    ids=["another sample", "another kind of threshold", "nothing", "no value"],
)
def test_what_was_not_measured_is_listed_with_the_reason(found: Evidence, named: str) -> None:
    (row,) = outcomes(COUNT, found).to_dict("records")
    assert row["verdict"] == "not testable"
    assert named in row["why"]
    assert (row["n"], row["model"], row["dataset"]) == (0, "lenet5", "mnist")
    assert np.isnan(row["p"])


def test_what_is_not_testable_is_left_out_of_the_correction() -> None:
    found = counts({1e-4: 1.0})
    crowd = [COUNT, *(Claim(**{**vars(COUNT), "name": f"other{i}", "measured": Measured("absent")}) for i in range(9))]
    rows = evaluate(crowd, found, found, PLAIN).set_index("claim")
    assert rows.loc["count_rises", "p_corrected"] == outcomes(COUNT, found)["p_corrected"].item()
    assert (rows["verdict"] == "not testable").sum() == 9


def test_one_batch_size_or_a_reference_without_the_quantity_is_not_testable() -> None:
    one = made_up(0.5, 0.2, seeds=3, sizes=(128,))
    rows = evaluate(papers.claims(), evidence(one), evidence(one), PLAIN).set_index("claim")
    assert rows.loc["test_error_rises", "verdict"] == "not testable"
    arm, reference = evidence(made_up(0.5, 0.2, seeds=3)), counts({1e-4: 1.0})
    rows = evaluate(papers.claims(), arm, reference, ClaimSettings("switching", "x", 0.02)).set_index("claim")
    assert rows.loc["gap_with_switching", "verdict"] != "not testable"
    assert rows.loc["switching_shrinks_gap", "verdict"] == "not testable"
    assert "reference" in rows.loc["switching_shrinks_gap", "why"]


def test_a_penalty_that_is_none_leaves_claims_about_it_listed() -> None:
    table = made_up(0.5, 0.2, seeds=3).assign(penalty=0.0, train_loss=1.0)
    rows = evaluate(papers.claims(), evidence(table), evidence(table), PLAIN).set_index("claim")
    assert rows.loc["train_loss_rises", "verdict"] == "not testable"
    assert "penalty" in rows.loc["train_loss_rises", "why"]


def test_of_two_networks_one_may_be_not_testable() -> None:
    both = pd.concat([made_up(0.5, 0.2, seeds=3), made_up(0.5, 0.2, seeds=3).assign(model="f1", test_error_pct=np.nan)])
    rows = evaluate(papers.claims(), evidence(both), evidence(both), PLAIN)
    rows = rows[rows["claim"] == "test_error_rises"].set_index("model")
    assert rows["verdict"].to_dict() == {"lenet5": "supported", "f1": "not testable"}


def test_an_axis_that_a_claim_leaves_open_is_named() -> None:
    open_axis = Claim(**{**vars(COUNT), "each": ()})
    with pytest.raises(InputError, match=r"threshold: 0\.001, 0\.0001; name one"):
        outcomes(open_axis, counts({1e-3: 1.0, 1e-4: 1.0}))


def test_of_two_statistics_of_batch_norm_the_re_estimated_ones_are_tested() -> None:
    runs = made_up(0.0, 0.2, seeds=3)
    noise = np.exp(0.01 * runs["test_error_pct"])
    flat = runs[["model", "dataset", "batch_size", "seed"]].assign(
        quantity="sharpness_pct", split="train", space="full", epsilon=1e-3, value=noise
    )
    rising = flat.assign(value=flat["batch_size"] * noise)
    claims = [claim for claim in papers.claims() if claim.name == "sharpness_rises"]
    for batch, usual, said in ((flat, rising, "supported"), (rising, flat, "no effect")):
        both = pd.concat([batch.assign(statistics="batch"), usual.assign(statistics="reestimated")], ignore_index=True)
        found = Evidence(both, runs)
        assert evaluate(claims, found, found, PLAIN)["verdict"].tolist() == [said]
    alone = Evidence(rising.assign(statistics="batch"), runs)
    assert evaluate(claims, alone, alone, PLAIN)["verdict"].tolist() == ["supported"]


def test_a_value_to_compare_with_is_taken_at_the_same_threshold() -> None:
    run_counts, other = counts({1e-4: 3.0, 1e-5: 3.0}), counts({1e-4: 1.0, 1e-5: 5.0}, sample="untrained")
    found = Evidence(pd.concat([run_counts.values, other.values], ignore_index=True), run_counts.runs)
    beyond = Claim(
        **{**vars(COUNT), "ends": True}
        | {"compared_with": Measured("near_rank_excess", {"sample": "untrained", "relative": False})}
    )
    rows = outcomes(beyond, found)
    assert rows["effect"].tolist() == pytest.approx([10.0, -10.0])


def test_every_claim_selects_something_that_some_committed_study_measured() -> None:
    """A wrong quantity, axis or value of an axis would be not testable everywhere, silently."""
    names: dict[str, set[str]] = {}
    for path in sorted((ROOT / "metrics/claims").glob("*.csv")):
        table = read_table(path)
        cells = ROOT / "metrics" / path.stem / "cells.csv"
        failed = cells.exists() and not (read_table(cells)["status"] == "ok").any()  # then nothing is there to select
        for claim, verdict in zip(table["claim"], table["verdict"], strict=True):
            names.setdefault(claim, set()).update(() if failed and verdict == "not testable" else [verdict])
    run = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "metrics").glob("*/params.yaml"))]
    asked = {
        claim.name
        for claim in papers.claims()
        for params in run
        if claim.arm == params["claims"]["arm"] and claim.measure in ("", *params["measures"])
    }
    assert set(names) == asked
    assert [name for name, found in names.items() if found == {"not testable"}] == []


def committed(study: str) -> tuple[Evidence, ClaimSettings]:
    """Return a committed study's evidence, and the params that its claims were tested with."""
    params = yaml.safe_load((ROOT / "metrics" / study / "params.yaml").read_text())["claims"]
    return read_evidence(ROOT / "metrics" / study), ClaimSettings(**{"seen_seeds": ()} | params)


@pytest.mark.parametrize("study", ["quick", "table05", "table11", "keskar_warmstart_n5000"])
def test_the_verdicts_of_a_committed_study_are_those_of_the_present_code(study: str) -> None:
    found, settings = committed(study)
    reference = read_evidence(ROOT / "metrics" / settings.reference)
    present = evaluate(papers.claims(), found, reference, settings)
    stored = read_table(ROOT / f"metrics/claims/{study}.csv")
    assert present["verdict"].tolist() == stored["verdict"].tolist()
    for column in ("effect", "slope_low", "p", "p_corrected", "p_none"):
        np.testing.assert_allclose(present[column].astype(float), stored[column].astype(float), rtol=DIGITS)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("tset: rises", "tset"),
        ("each: [treshold]", "threshold"),
        ("where: {smaple: run}", "sample"),
        ("over: widht", "width"),
        ("compared_with: {quantity: x, were: {}}", "where"),
        ("correlated_with: {quantity: x}", "rises_with"),
        ("of: gap", "width"),
    ],
)
def test_a_claim_that_is_misspelt_is_refused(entry: str, named: str) -> None:
    text = f"- {{name: mine, statement: s, source: s, test: rises, quantity: error_pct, unit: points, {entry}}}"
    with pytest.raises(InputError, match="mine") as error:
        read_claims(text, "own")
    assert named in str(error.value)


def test_a_claim_that_lacks_its_test_is_refused() -> None:
    with pytest.raises(InputError, match="test, unit"):
        read_claims("- {name: mine, statement: s, source: s, quantity: error_pct}", "own")
    with pytest.raises(InputError, match="rises"):
        read_claims("- {name: a, statement: s, source: s, quantity: q, unit: nats, test: rise}", "own")


def test_the_stage_takes_curvature_and_warm_starts_where_the_study_has_them(tmp_path: Path) -> None:
    table = made_up(0.5, 0.2, seeds=3)
    values, cells = migrated.long_runs(table)
    key = table[["model", "dataset", "batch_size", "seed"]]
    for name, content in (("runs", values), ("cells", cells)):
        write_table(tmp_path / f"tables/{name}.csv", content)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    arguments = ["--tables", "tables", "--reference", "tables/runs.csv", "--out", "out.csv"]

    def rows() -> pd.DataFrame:
        run(tmp_path, "claims", *arguments)
        found = read_table(tmp_path / "out.csv")
        return found[found["verdict"] != "not testable"].set_index("claim")

    assert rows().index.tolist() == ["test_error_rises"]
    power = 1 + 0.01 * (table["seed"] - 1)  # equal slopes of all seeds would be tested as three signs
    largest = key.assign(quantity="hessian_largest", value=2.0 * table["batch_size"] ** power)[::-1]  # in another order
    write_table(tmp_path / "tables/runs.csv", pd.concat([values, largest], ignore_index=True))
    assert rows().loc["hessian_rises", ["verdict", "effect"]].tolist() == ["supported", pytest.approx(64.0)]
    params = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(params.replace("arm: plain", "arm: switching"))
    with pytest.raises(SystemExit):  # its reference is the study itself
        run(tmp_path, "claims", *arguments)
    (tmp_path / "params.yaml").write_text(params.replace("arm: plain", "arm: warmstart"))
    starts = pd.DataFrame({"start_epoch": [0, 10, 20] * 3, "seed": np.repeat([0, 1, 2], 3), "status": "ok"})
    starts = starts.assign(model="f1", dataset="mnist", large_test_error_pct=3.0 - starts["start_epoch"] / 10)
    starts["large_test_error_pct"] += 0.01 * (starts["seed"] - 1) * starts["start_epoch"]  # -1.8, -2.0 and -2.2 at 20
    values, cells = migrated.long_starts(starts.assign(small_batch_size=256, large_batch_size=6000))
    (tmp_path / "tables/runs.csv").unlink()
    for name, content in (("warmstart", values), ("cells", cells)):
        write_table(tmp_path / f"tables/{name}.csv", content)
    found = rows()
    assert found.index.tolist() == ["warmstart_recovers"]
    assert found.loc["warmstart_recovers", ["verdict", "effect"]].tolist() == ["supported", pytest.approx(-2.0)]


def test_an_axis_is_a_column_of_the_table(tmp_path: Path) -> None:
    rows = outcomes(COUNT, counts({1e-4: 1.0}))
    assert [name for name in rows if name in AXES] == ["sample", "threshold", "relative"]
    write_table(tmp_path / "claims.csv", rows)
    assert read_table(tmp_path / "claims.csv").columns.tolist() == [
        *verdicts.FIRST, "sample", "threshold", "relative", *verdicts.LAST
    ]  # fmt: skip
