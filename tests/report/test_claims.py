"""Verdicts on made-up runs whose answer is known."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scripts import run

from gapscope.claims import hypothesis_tests as tests
from gapscope.claims import verdicts as claims
from gapscope.claims.verdicts import ClaimSettings, evaluate
from gapscope.errors import InputError
from gapscope.records.tables import read_table, write_table
from gapscope.report import tables

ROOT = Path(__file__).parents[2]
SIZES = (128, 512, 1024, 2048, 4096, 8192)
PLAIN = ClaimSettings(arm="plain", reference="made_up", level=0.02)


def made_up(
    rise: float, noise: float, seeds: int, seed: int = 0, sizes: tuple[int, ...] = SIZES, **more: Any
) -> pd.DataFrame:
    """Test error that rises by `rise` from one size to the next, with noise, and an offset of each seed's own."""
    draw = np.random.default_rng(seed)
    rows = []
    for block in range(seeds):
        offset = draw.normal()
        for level, size in enumerate(sizes):
            error = 8 + offset + rise * level + noise * draw.normal()
            rows.append(
                {"model": "lenet5", "dataset": "mnist", "batch_size": size, "seed": block, "status": "ok"}
                | {"test_error_pct": error, **more}
            )
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame, claim: str = "test_error_rises", **settings: Any) -> pd.Series:
    reference = settings.pop("reference_table", table)
    found = evaluate({"runs": table}, reference, ClaimSettings(**{**vars(PLAIN), **settings})).set_index("claim")
    return found.loc[claim]


def test_a_planted_rise_is_supported_and_a_planted_fall_contradicts() -> None:
    assert verdict(made_up(0.5, 0.2, seeds=3))["verdict"] == "supported"
    assert verdict(made_up(-0.5, 0.2, seeds=3))["verdict"] == "contradicted"
    assert verdict(made_up(0.0, 0.2, seeds=3))["verdict"] == "undecided"


def test_the_effect_is_the_change_from_the_first_to_the_last_batch_size_with_its_interval() -> None:
    table = made_up(0.5, 0.2, seeds=4)
    blocks = table.pivot_table(index="seed", columns="batch_size", values="test_error_pct").to_numpy()
    expected = stats.ttest_1samp(blocks[:, -1] - blocks[:, 0], 0).confidence_interval(0.95)
    row = verdict(table)
    assert (row["effect_low"], row["effect_high"]) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert row["effect"] == pytest.approx((blocks[:, -1] - blocks[:, 0]).mean(), rel=1e-12)
    assert row["n"] == 4
    assert row["levels"] == "128, 512, 1024, 2048, 4096, 8192"


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_decide_nothing(seeds: int) -> None:
    row = verdict(made_up(5.0, 0.01, seeds))
    assert row["verdict"] == "undecided"
    assert f"n = {seeds}" in row["why"]
    assert row["effect"] == pytest.approx(25, abs=1)  # shown all the same


UNCHANGED = "no change in any seed: nothing to test"


@pytest.mark.parametrize("sizes", [SIZES, (256, 6000)], ids=["trend", "two sizes"])
def test_what_never_changes_is_undecided_and_not_corrected_for(sizes: tuple[int, ...]) -> None:
    """Tarone 1990: what can reject at no level is no hypothesis to correct for."""
    table = made_up(0.5, 0.2, seeds=3, sizes=sizes)
    flat = {"near_rank_probe_0.0001_excess": 0, "near_rank_untrained_0.0001_excess": 5}
    crowd = table.assign(**flat, test_cross_entropy=table["seed"])
    assert verdict(crowd)["p_corrected"] == verdict(table)["p_corrected"]
    for claim in ("probe_excess_rises", "untrained_excess_rises", "test_cross_entropy_rises"):
        assert verdict(crowd, claim)[["verdict", "why", "p_corrected"]].tolist() == ["undecided", UNCHANGED, 1.0]
    assert "n = 2" in verdict(made_up(0.5, 0.2, seeds=2, sizes=sizes, **flat), "probe_excess_rises")["why"]


@pytest.mark.parametrize(("counts_in", "loss_in"), [((), (0, 1, 2)), ((0, 1, 2), ()), ((0, 2), (1,))])
def test_a_correlation_with_what_no_seed_sees_change_is_the_same(
    counts_in: tuple[int, ...], loss_in: tuple[int, ...]
) -> None:
    table = made_up(0.5, 0.2, seeds=3)
    counts, loss = (table["batch_size"].where(table["seed"].isin(seeds), 0) for seeds in (counts_in, loss_in))
    alone = table.assign(**{"near_rank_run_0.0001_full": counts})
    both = alone.assign(train_loss=loss)
    row = verdict(both, "near_rank_with_train_loss")
    assert row[["verdict", "why", "p_corrected"]].tolist() == ["undecided", UNCHANGED, 1.0]
    assert np.isnan(row["effect"])
    assert verdict(both)["p_corrected"] == verdict(alone)["p_corrected"]


def correlated(trial: int) -> pd.Series:
    table, draw = made_up(0.0, 1.0, seeds=3, seed=trial), np.random.default_rng((trial, 1))
    return verdict(
        table.assign(train_loss=table["test_error_pct"], **{"near_rank_run_0.0001_full": draw.normal(size=len(table))}),
        "near_rank_with_train_loss",
    )


def unshrunk(trial: int, claim: str = "switching_shrinks_gap") -> pd.Series:
    """A real gap, and an arm with the same one; with half of it for the claim that less than half is left."""
    left = 0.5 if claim == "switching_removes_gap" else 1.0
    reference, arm = made_up(1.0, 0.3, seeds=3, seed=trial), made_up(left, 0.3, seeds=3, seed=1000 + trial)
    return verdict(arm, claim, arm=claim.partition("_shrinks")[0].partition("_removes")[0], reference_table=reference)


def of_width(trial: int) -> pd.Series:
    widths = ("lenet5_w0.5", "lenet5", "lenet5_w2")
    tables = (
        made_up(1.0, 0.3, seeds=3, seed=3 * trial + i, sizes=(128, 8192)).assign(model=w) for i, w in enumerate(widths)
    )
    return verdict(pd.concat(tables), "width_shrinks_gap", arm="width")


def warm_started(trial: int) -> pd.Series:
    starts = made_up(0.0, 1.0, seeds=3, seed=trial, sizes=(0, 20, 40, 60))
    starts = starts.rename(columns={"batch_size": "start_epoch", "test_error_pct": "large_test_error_pct"})
    found = evaluate({"warmstart": starts}, starts, ClaimSettings("warmstart", "x", 0.02))
    return found.set_index("claim").loc["warmstart_recovers"]


@pytest.mark.parametrize(
    ("of", "decides"),
    [
        (lambda trial: verdict(made_up(0.0, 1.0, seeds=3, seed=trial)), True),
        (lambda trial: verdict(made_up(0.0, 1.0, seeds=3, seed=trial, sizes=(256, 6000))), True),
        (correlated, True),
        (of_width, True),
        (warm_started, True),
        # the larger batches have to be better, too, or the reference's gap shown: seldom both by chance
        (unshrunk, False),
        (partial(unshrunk, claim="switching_removes_gap"), False),
        (partial(unshrunk, claim="equal_updates_shrinks_gap"), True),
    ],
    ids=["trend", "two sizes", "correlation", "width", "warm start", "remedy", "remedy of half", "gap"],
)
def test_a_planted_null_is_seldom_called_supported(of: Callable[[int], pd.Series], decides: bool) -> None:
    """Nominal 2 % each way; 5 % of 200 trials is 10, which a true 2 % exceeds with a probability of 0.3 %."""
    verdicts = [of(trial)["verdict"] for trial in range(200)]
    assert verdicts.count("supported") <= 10
    assert verdicts.count("contradicted") <= 10
    if decides:  # a test that never decides would pass the two above; of remedies others show that they decide
        assert verdicts.count("undecided") < 200


def test_a_study_of_nothing_is_seldom_decided_anywhere() -> None:
    """2 % in each direction, so a false verdict in 4 % of 40 studies at most; that 6 or more have one is 0.5 %."""
    plain = [claim for claim in claims.load_claims() if claim.arm == "plain"]
    counted = {"values", "eigenvalues"}
    units = {name: claim.unit for claim in plain for name in (claim.quantity, claim.less, claim.needs) if name}
    units |= {claim.beside: "nats" for claim in plain if claim.beside}
    blank, false = made_up(0.0, 1.0, seeds=3), 0
    for trial in range(40):
        draw, n = np.random.default_rng(trial), len(blank)
        columns = {
            name: draw.poisson(0.1, n) if unit in counted else draw.lognormal(size=n) for name, unit in units.items()
        }
        found = evaluate({"runs": blank.assign(**columns)}, blank, PLAIN)
        assert found["claim"].tolist() == [claim.name for claim in plain]
        false += (found["verdict"] != "undecided").any()
    assert false <= 5


def test_counts_that_spread_more_at_large_batches_are_no_rise_over_a_control() -> None:
    """Both drawn alike: 2 % each way, together 8 of 200 trials; 17 or more have 0.3 %. Page's test has 20 %."""
    table = made_up(0.0, 1.0, seeds=3)
    at_largest, rejected = np.where(table["batch_size"] == 8192, 20.0, 0.0), 0
    for trial in range(200):
        run, untrained = np.random.default_rng(trial).poisson(at_largest, (2, len(table)))
        counts = {"near_rank_run_0.0001_excess": run, "near_rank_untrained_0.0001_excess": untrained}
        row = verdict(table.assign(**counts), "excess_over_untrained_rises")
        rejected += row["p"] <= 0.02
    assert 0 < rejected <= 16
    assert row["test"] == "paired t test over seeds, last level less first"


def noisy_epochs(trial: int, over_fitting: float = 0.0, gap: float = 0.0) -> pd.DataFrame:
    """Runs whose errors jump from epoch to epoch at b = 8192, where both may be planted; their own least is in both."""
    rows, histories = [], []
    draw, epochs = np.random.default_rng(trial), np.arange(60)
    for level, size in enumerate((128, 2048, 8192)):
        large = float(size == 8192)
        for seed in range(3):
            noise = 0.05 + 0.6 * large * np.linspace(1, 0.1, 60)  # it settles as the rate falls
            curve = (
                9 + gap * level / 2 + 2 * np.exp(-epochs / 10) + over_fitting * large * np.maximum(0, epochs - 30) / 29
            )
            errors = curve + noise * draw.normal(size=60)
            histories.append(pd.DataFrame({"epoch": epochs + 1, "test_error_pct_running": errors}))
            cell = {"model": "lenet5", "dataset": "mnist", "batch_size": size, "seed": seed, "status": "ok"}
            rows.append({**cell, "test_error_pct_running": errors[-1]})
    runs = pd.DataFrame(rows)
    return runs.join(tables.best_epochs(runs, histories))


def test_epochs_that_are_noisier_at_large_batches_are_neither_over_fitting_nor_a_gap_of_the_best_epoch() -> None:
    """By its own least error a run over-fits in a third of the trials; by the others' best epoch a gap would remain."""
    names, swapped = ("over_fitting_rises", "best_epoch_rises"), []
    found: dict[str, list[str]] = {name: [] for name in names}
    for trial in range(200):
        runs = noisy_epochs(trial)
        for name in names:
            found[name].append(verdict(runs, name)["verdict"])
        own = runs.assign(test_error_pct_others_best_epoch=runs["test_error_pct_best_epoch"])
        swapped.append(verdict(own, "over_fitting_rises")["verdict"])
    for name in names:
        assert found[name].count("supported") <= 10, name
        assert found[name].count("contradicted") == 0, name  # it is not tested
    assert swapped.count("supported") > 40
    row = verdict(noisy_epochs(0), "over_fitting_rises")
    assert row["effect"] < 0  # it leans the other way, of which nothing may be said
    assert re.fullmatch(r"chance would do as much with p = \S+; the contrary is not tested", row["why"])


def test_planted_over_fitting_and_a_planted_gap_of_the_best_epoch_are_found() -> None:
    assert verdict(noisy_epochs(0, over_fitting=3.0), "over_fitting_rises")["verdict"] == "supported"
    assert verdict(noisy_epochs(0, gap=4.0), "best_epoch_rises")["verdict"] == "supported"


def test_without_seeds_as_blocks_the_offsets_of_seeds_would_hide_the_rise() -> None:
    table = made_up(0.15, 0.05, seeds=3)
    assert verdict(table)["verdict"] == "supported"
    pooled = stats.spearmanr(table["batch_size"], table["test_error_pct"], alternative="greater").pvalue
    assert pooled > 0.02


def test_many_tests_at_once_are_corrected_for() -> None:
    table = made_up(0.08, 0.25, seeds=3, seed=5)
    alone = verdict(table)
    many = ("train_cross_entropy", "test_cross_entropy", "distance_from_initial", "train_error_pct")
    draw = np.random.default_rng(9)
    crowd = table.assign(**{name: draw.normal(size=len(table)) for name in many})
    corrected = verdict(crowd)
    assert alone["verdict"] == "supported"
    assert corrected["p"] == alone["p"]
    assert corrected["p_corrected"] > 3 * alone["p_corrected"]
    assert corrected["verdict"] == "undecided"


def test_holm_is_the_known_one() -> None:
    assert tests.holm([0.01, 0.04, 0.03, 0.005], 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # 1979, by hand
    assert tests.holm([1.0, 0.01, 1.0, 0.04, 0.03, 0.005], 4) == pytest.approx([1, 0.03, 1, 0.06, 0.06, 0.02])
    assert tests.holm([0.9, 0.8], 2) == [1.0, 1.0]


def test_the_trend_is_pages_where_there_are_no_ties() -> None:
    values = np.random.default_rng(3).normal(size=(3, 4)) + np.arange(4)
    ours = tests.trend(np.arange(4.0), values, np.random.default_rng(0))
    exact = stats.page_trend_test(values, method="exact").pvalue
    spread = np.sqrt(exact * (1 - exact) / tests.DRAWS)
    assert abs(ours.p_rises - exact) < 4 * spread
    assert 0.0001 < exact < 0.2


def test_ties_and_infinities_are_ranked_and_a_nan_is_refused() -> None:
    values = np.array([[1, 1, np.inf], [0, 2, np.inf], [0, 0, 5.0]])
    found = tests.trend(np.arange(3.0), values, np.random.default_rng(0))
    assert found.p_rises < 0.02 < found.p_falls
    with pytest.raises(ValueError, match="NaN"):
        tests.trend(np.arange(3.0), np.array([[1, np.nan, 2.0]]), np.random.default_rng(0))
    with pytest.raises(ValueError, match="3 levels"):
        tests.trend(np.arange(2.0), np.ones((3, 2)), np.random.default_rng(0))


def test_two_batch_sizes_are_compared_within_seeds_and_sharpness_by_its_factor() -> None:
    table = made_up(0.0, 0.1, seeds=4, sizes=(256, 6000))
    factors = [100.0, 120.0, 90.0, 110.0]
    sharp = np.where(table["batch_size"] == 256, 1.0, 0.0) + np.repeat(factors, 2) * (table["batch_size"] == 6000)
    row = verdict(table.assign(**{"sharpness_full_0.001_pct": sharp}), "sharpness_rises")
    assert row["verdict"] == "supported"
    assert row["effect"] == pytest.approx(stats.gmean(factors), rel=1e-12)
    assert row["effect_unit"] == "times"
    assert row["effect_low"] < row["effect"] < row["effect_high"]


def test_an_infinite_condition_number_decides_nothing_and_spoils_no_other_claim() -> None:
    table = made_up(2.0, 0.01, seeds=4, sizes=(256, 6000)).assign(hessian_trace=[1, 99, 1, 100, 1, 101, 1, 100])
    infinite = table.assign(condition_number_run=[5.0, np.inf] * 3 + [np.inf, np.inf])  # between the two in the file
    assert verdict(infinite, "condition_number_rises")[["verdict", "p"]].tolist() == ["undecided", 1.0]
    for claim in ("test_error_rises", "hessian_trace_rises"):
        assert verdict(infinite, claim)["verdict"] == "supported"
        assert verdict(infinite, claim)["p_corrected"] == verdict(table, claim)["p_corrected"]


@pytest.mark.parametrize("status", ["diverged", tables.STUCK])
def test_a_batch_size_at_which_a_run_failed_is_left_out_and_said(status: str) -> None:
    table = made_up(0.5, 0.2, seeds=3)
    lost = (table["batch_size"] == 8192) & (table["seed"] == 1)
    failed = table.assign(status=np.where(lost, status, "ok"))
    row = verdict(failed)
    assert row["levels"] == "128, 512, 1024, 2048, 4096"
    assert row["n"] == 3
    assert row["caution"] == f"Of 18 runs 1 {status}: left out."
    row = verdict(table, "switching_shrinks_gap", arm="switching", reference_table=failed)
    assert row["caution"].endswith(f" Of 18 runs of the reference 1 {status}: left out.")
    assert verdict(table)["caution"] == ""


def test_a_seed_that_diverged_everywhere_is_left_out() -> None:
    table = made_up(0.5, 0.2, seeds=4)
    row = verdict(table.assign(status=np.where(table["seed"] == 2, "diverged", "ok")))
    assert (row["n"], row["levels"], row["verdict"]) == (3, "128, 512, 1024, 2048, 4096, 8192", "supported")
    for sizes in (SIZES, (256, 6000)):
        lost = made_up(0.5, 0.2, seeds=2, sizes=sizes).assign(status="diverged")
        assert evaluate({"runs": lost}, lost, PLAIN).empty


def test_a_correlation_is_within_seeds() -> None:
    table = made_up(0.5, 0.4, seeds=3)
    table = table.assign(
        **{"train_loss": table["test_error_pct"] / 100, "near_rank_run_0.0001_full": table["batch_size"]}
    )
    row = verdict(table, "near_rank_with_train_loss")
    assert row["verdict"] == "supported"
    assert "batch size" in row["caution"]
    each = [stats.spearmanr(of["train_loss"], of["batch_size"]).statistic for _, of in table.groupby("seed")]
    low, high = stats.ttest_1samp(each, 0).confidence_interval(0.95)
    assert 0.9 < row["effect"] < 1.0 < high
    assert row[["effect", "effect_low", "effect_high"]].tolist() == pytest.approx([np.mean(each), low, 1.0], rel=1e-9)


@pytest.mark.parametrize(
    ("left", "shrinks", "removes"),
    [(0.0, "supported", "supported"), (0.8, "supported", "contradicted"), (1.6, "contradicted", "contradicted")],
    ids=["removed", "a fifth removed", "grown"],
)
def test_an_arms_gap_is_set_against_the_references(left: float, shrinks: str, removes: str) -> None:
    reference, arm = made_up(0.5, 0.01, seeds=4), made_up(0.5 * left, 0.01, seeds=4, seed=1, sizes=SIZES[::5])
    arm.loc[arm["batch_size"] == 8192, "test_error_pct"] += 4 * 0.5 * left  # of two sizes, as after six
    levels = [table[table["batch_size"] == 128].set_index("seed")["test_error_pct"] for table in (reference, arm)]
    arm["test_error_pct"] += arm["seed"].map(levels[0] - levels[1])  # a seed's own level is that of its weights
    switched = {"arm": "switching", "reference_table": reference}
    row = verdict(arm, "switching_shrinks_gap", **switched)
    assert row["verdict"] == shrinks
    assert row["effect"] == pytest.approx(2.5 * (left - 1), abs=0.05)
    assert row["levels"] == "8192 less 128"
    assert row["test"].endswith("of the gap less the reference's, and of the larger batches' own change")
    row = verdict(arm, "switching_removes_gap", **switched)
    assert row["verdict"] == removes
    assert row["effect"] == pytest.approx(2.5 * (left - 0.5), abs=0.05)
    assert row["effect_low"] < row["effect"] < row["effect_high"]
    assert row["test"].endswith("the gap less half of the reference's, and of the larger batches' own change")


@pytest.mark.parametrize("claim", ["switching_shrinks_gap", "switching_removes_gap"])
def test_no_remedy_is_one_that_makes_the_smallest_batch_as_bad_as_the_others(claim: str) -> None:
    """All of this gap goes; larger batches are 1 point better, the same but for chance, or worse."""
    reference = made_up(0.5, 0.001, seeds=4)
    flat = made_up(0.0, 0.001, seeds=4, seed=1)
    of_seed = reference.loc[reference["batch_size"] > 128].groupby("seed")["test_error_pct"].mean()
    for better, said in ((1.0, "supported"), (0.0, "undecided"), (-1.0, "undecided")):
        noise = flat["test_error_pct"] - flat.groupby("seed")["test_error_pct"].transform("mean")
        arm = flat.assign(test_error_pct=flat["seed"].map(of_seed) - better + noise)
        row = verdict(arm, claim, arm="switching", reference_table=reference)
        assert row["verdict"] == said
        small, large = re.findall(r"smallest batch (\S+), larger ones (\S+) points$", row["also"])[0]
        assert float(small) == pytest.approx(1.5 - better, abs=0.01)
        assert float(large.replace("−", "-")) == pytest.approx(-better, abs=0.01)


@pytest.mark.parametrize("rise", [0.0, -0.02, -0.2])
@pytest.mark.parametrize("arms", [-0.5, 0.0, 0.5])
def test_no_remedy_shrinks_a_gap_that_is_not_there(rise: float, arms: float) -> None:
    reference, arm = made_up(rise, 0.01, seeds=4), made_up(arms, 0.01, seeds=4, seed=1)
    for claim in ("switching_shrinks_gap", "switching_removes_gap"):
        row = verdict(arm, claim, arm="switching", reference_table=reference)
        assert row["verdict"] == "undecided"
        assert "no gap is shown for the reference" in row["why"]


def test_a_remedys_p_is_that_of_the_reference_s_gap_where_that_is_the_less_sure() -> None:
    reference, arm = made_up(0.15, 0.1, seeds=3, seed=2), made_up(-9.0, 0.01, seeds=3)
    blocks = reference.pivot_table(index="seed", columns="batch_size", values="test_error_pct").to_numpy()
    gap = stats.ttest_1samp(blocks[:, 1:].mean(axis=1) - blocks[:, 0], 0, alternative="greater").pvalue
    row = verdict(arm, "switching_shrinks_gap", arm="switching", reference_table=reference)
    assert row["p"] == pytest.approx(gap, rel=1e-9)
    assert 1e-3 < gap < 0.02


@pytest.mark.parametrize("level", [0.0, 0.5, -0.02, 2.0, float("nan")])
def test_a_level_that_is_none_is_refused(level: float) -> None:
    with pytest.raises(InputError, match=rf"claims\.level must lie between 0 and 0\.5, got {level}; .* 0\.02"):
        ClaimSettings("plain", "mine", level)


def test_a_gap_is_not_set_against_itself() -> None:
    with pytest.raises(InputError, match=r"claims\.reference must name that one"):
        ClaimSettings("switching", "mine", 0.02).check("mine")
    ClaimSettings("switching", "other", 0.02).check("mine")
    ClaimSettings("plain", "mine", 0.02).check("mine")


def test_width_is_read_from_the_models_names() -> None:
    shares = {"lenet5_w0.5": 0.3, "lenet5": 0.2, "lenet5_w2": 0.1}
    draw = np.random.default_rng(0)
    table = pd.concat(
        made_up(0.5 * share, 0.01, seeds=3, sizes=(128, 8192)).assign(
            model=name, **{"near_rank_run_0.0001_fraction": share + 0.001 * draw.normal(size=6)}
        )
        for name, share in shares.items()
    )
    better = table["model"].map({"lenet5_w0.5": 0.0, "lenet5": 3.0, "lenet5_w2": 6.0})  # at every batch size: no gap
    table = table.assign(test_error_pct=table["test_error_pct"] - better)
    row = verdict(table, "width_lowers_share", arm="width")
    assert (row["model"], row["levels"]) == ("lenet5", "0.5, 1, 2")
    assert row["verdict"] == "supported"
    assert row["effect"] == pytest.approx(-0.2, abs=0.01)
    none = table.assign(**{"near_rank_run_0.0001_fraction": 0.0})
    row = verdict(none, "width_lowers_share", arm="width")
    assert (row["verdict"], row["why"]) == ("undecided", UNCHANGED)
    lost = table.assign(status=np.where(table["batch_size"] == 8192, "diverged", "ok"))
    some = table.assign(status=np.where((table["seed"] == 0) & (table["batch_size"] == 128), "diverged", "ok"))
    assert "Of 18 runs 3 diverged: left out." in verdict(some, "width_lowers_share", arm="width")["caution"]
    assert evaluate({"runs": lost}, lost, ClaimSettings("width", "x", 0.02)).empty  # 128 is not taken for the largest
    one = table[table["batch_size"] == 128]
    assert "width_shrinks_gap" not in set(evaluate({"runs": one}, one, ClaimSettings("width", "x", 0.02))["claim"])
    gap = verdict(table, "width_shrinks_gap", arm="width")
    assert gap["quantity"] == "gap of test_error_pct"
    assert gap["effect"] == pytest.approx(0.5 * 0.1 - 0.5 * 0.3, abs=0.05)


def test_every_measured_sharpness_and_near_rank_loss_with_train_loss_has_its_claim() -> None:
    runs = read_table(ROOT / "metrics/keskar_table3/runs.csv")
    claimed = [(claim.quantity, claim.beside) for claim in claims.load_claims()]
    measured = [column for column in runs if column.startswith("sharpness_") and column.endswith("_pct")]
    assert len(measured) == 8
    assert all(claimed.count((column, None)) == 1 for column in measured)
    for threshold in ("0.0001", "1e-05"):
        column = f"near_rank_run_{threshold}_full"
        assert column in runs
        assert claimed.count((column, "train_loss")) == 1


def test_every_claim_of_the_file_is_one_that_its_code_knows() -> None:
    every = claims.load_claims()
    assert len({claim.name for claim in every}) == len(every)
    for claim in every:
        assert claim.test in {"rises", "falls", "rises_with", *claims.REMOVED}, claim.name
        assert (claim.beside is not None) == (claim.test == "rises_with"), claim.name
        assert (claim.of is not None) == (claim.over == "width"), claim.name
        assert claim.statement, claim.name
        assert claim.source, claim.name


def test_an_unknown_arm_is_named() -> None:
    with pytest.raises(InputError, match="switching"):
        evaluate({"runs": made_up(0, 1, 3)}, pd.DataFrame(), ClaimSettings("switchin", "x", 0.02))


def test_the_stage_takes_curvature_and_warm_starts_where_the_study_has_them(tmp_path: Path) -> None:
    table = made_up(0.5, 0.2, seeds=3)
    key = table[["model", "dataset", "batch_size", "seed"]]
    write_table(tmp_path / "tables/runs.csv", table)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    arguments = ["--tables", "tables", "--reference", "tables/runs.csv", "--out", "out.csv"]
    run(tmp_path, "claims", *arguments)
    assert read_table(tmp_path / "out.csv")["claim"].tolist() == ["test_error_rises"]
    largest = key.assign(status="ok", hessian_largest=table["batch_size"] * 2.0)[::-1]  # in another order
    write_table(tmp_path / "tables/curvature.csv", largest)
    run(tmp_path, "claims", *arguments)
    found = read_table(tmp_path / "out.csv").set_index("claim")
    assert found.loc["hessian_rises", ["verdict", "effect"]].tolist() == ["supported", pytest.approx(64.0)]
    params = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(params.replace("arm: plain", "arm: switching"))
    with pytest.raises(SystemExit):  # its reference is the study itself
        run(tmp_path, "claims", *arguments)
    (tmp_path / "params.yaml").write_text(params.replace("arm: plain", "arm: warmstart"))
    starts = pd.DataFrame({"start_epoch": [0, 10, 20] * 3, "seed": np.repeat([0, 1, 2], 3), "status": "ok"})
    starts = starts.assign(model="f1", dataset="mnist", large_test_error_pct=3.0 - starts["start_epoch"] / 10)
    write_table(tmp_path / "tables/warmstart.csv", starts)
    run(tmp_path, "claims", *arguments)
    (row,) = read_table(tmp_path / "out.csv").to_dict("records")
    assert (row["claim"], row["verdict"], row["effect"]) == ("warmstart_recovers", "supported", -2.0)


def test_a_seed_that_is_not_run_yet_at_some_size_is_left_out_and_no_size_with_it() -> None:
    table = made_up(0.5, 0.2, seeds=4)
    begun = table[(table["seed"] < 3) | (table["batch_size"] == 128)]
    row = verdict(begun)
    assert (row["n"], row["levels"], row["verdict"]) == (3, "128, 512, 1024, 2048, 4096, 8192", "supported")


def test_a_seed_without_either_quantity_is_left_out_of_a_correlation() -> None:
    table = made_up(0.5, 0.2, seeds=5)
    counts, loss = table["batch_size"].where(table["seed"] != 2), table["test_error_pct"].where(table["seed"] != 4)
    table = table.assign(train_loss=loss, penalty=0.1, **{"near_rank_run_0.0001_full": counts})
    row = verdict(table, "near_rank_with_train_loss")
    assert (row["n"], row["verdict"]) == (3, "supported")


def test_a_penalty_that_rises_less_than_cross_entropy_is_not_the_rise() -> None:
    table = made_up(0.5, 0.01, seeds=3)
    step = table["test_error_pct"]  # rises
    for penalty, said in ((0.01, "contradicted"), (2.0, "supported")):
        row = verdict(table.assign(train_cross_entropy=step, penalty=penalty * step), "penalty_rises_more")
        assert row["verdict"] == said
    without = table.assign(train_cross_entropy=step, penalty=0.0, train_loss=step)
    found = evaluate({"runs": without}, without, PLAIN)["claim"].tolist()
    assert "train_cross_entropy_rises" in found
    assert not {"penalty_rises_more", "train_loss_rises"} & set(found)


def test_of_what_is_zero_at_one_end_there_is_no_multiple() -> None:
    table = made_up(0.0, 0.1, seeds=3, sizes=(256, 6000))
    row = verdict(table.assign(**{"sharpness_full_0.001_pct": [0.0, 5.0, 1.0, 9.0, 2.0, 12.0]}), "sharpness_rises")
    assert (row["effect"], row["effect_unit"]) == (pytest.approx(23 / 3), "as a difference")


def test_counts_that_change_alike_in_every_seed_decide_by_how_far_and_equal_shares_do_not() -> None:
    """Structural zeros are the same in every seed; so may be a single image's error, by chance."""
    far, near = (tests.paired(np.full(3, change), resolution=1.0) for change in (26160.0, 1.0))
    assert far.p_rises < 1e-9
    assert far.p_rises < tests.paired(np.array([26160.0, 26160.0, 26161.0]), 1.0).p_rises < 1e-9
    assert near.p_rises == pytest.approx(stats.t.sf(6, 2), rel=1e-9)  # 1 / (1 / sqrt(12) / sqrt(3)) = 6
    table = made_up(0.0, 0.1, seeds=3, sizes=(256, 6000))
    counted = table.assign(**{"near_rank_run_0.0001_full": 26160 * (table["batch_size"] == 6000)})
    assert verdict(counted, "near_rank_rises")["verdict"] == "supported"
    levels = np.array([8.35, 9.21, 7.77])
    assert tests.paired((levels + 0.14) - levels).p_rises == 0.125  # not 1e-30, for all that rounding leaves
    assert tests.paired((levels + 0.1 + 0.2) - (levels + 0.3)) == tests.UNCHANGED


def test_what_no_seed_sees_change_is_unchanged_though_seeds_differ() -> None:
    values = np.repeat([[1.0], [2.0], [np.inf]], 3, axis=1)
    levels, draws = np.arange(3.0), np.random.default_rng(0)
    assert tests.trend(levels, values, draws) == tests.trend(values, values, draws) == tests.UNCHANGED
    assert tests.trend(values, np.tile(levels, (3, 1)), draws) == tests.UNCHANGED
    assert tests.paired(values[:2, 1] - values[:2, 0]) == tests.UNCHANGED
    values[0, 1] += 1
    assert tests.trend(levels, values, draws).tested
    assert tests.paired(values[:2, 1] - values[:2, 0]).tested


def test_at_equal_updates_a_gap_may_shrink_by_what_becomes_of_the_smallest_batch() -> None:
    """No remedy, but an account of the gap: it is what the small batch gained from more updates."""
    reference, arm = made_up(0.5, 0.001, seeds=4), made_up(0.0, 0.001, seeds=4, seed=1)
    arm = arm.assign(test_error_pct=arm["test_error_pct"] + 9)
    assert (
        verdict(arm, "equal_updates_shrinks_gap", arm="equal_updates", reference_table=reference)["verdict"]
        == "supported"
    )


def test_an_arm_trained_on_another_device_says_so() -> None:
    reference, arm = made_up(0.5, 0.01, seeds=4), made_up(0.1, 0.01, seeds=4, seed=1)
    for devices, said in ((("cpu", "cuda"), True), (("cpu", "cpu"), False)):
        of_arm, of_reference = (
            table.assign(device=name) for table, name in zip((arm, reference), devices, strict=True)
        )
        row = verdict(of_arm, "switching_shrinks_gap", arm="switching", reference_table=of_reference)
        assert ("Trained on cpu, the reference's on cuda" in row["caution"]) == said


def test_batch_sizes_trained_on_several_devices_are_said() -> None:
    table = made_up(0.5, 0.01, seeds=3)
    for small, said in (("cpu", True), ("cuda", False)):
        devices = table["batch_size"].map(lambda size, small=small: small if size == 128 else "cuda")
        caution = verdict(table.assign(device=devices))["caution"]
        assert ("Trained on several devices: b = 128 on cpu; b = 512" in caution) == said


def test_warm_starts_trained_on_several_devices_are_said() -> None:
    starts = pd.DataFrame({"start_epoch": [0, 10, 20] * 3, "seed": np.repeat([0, 1, 2], 3), "status": "ok"})
    starts = starts.assign(model="f1", dataset="mnist", large_test_error_pct=3.0 - starts["start_epoch"] / 10)
    starts = starts.assign(device=np.where(starts["seed"] == 1, "cuda", "cpu"))
    (row,) = evaluate({"warmstart": starts}, starts, ClaimSettings("warmstart", "x", 0.02)).to_dict("records")
    assert "start = 0, 10, 20 on cpu; start = 0, 10, 20 on cuda" in row["caution"]


def test_a_condition_number_is_set_against_its_control_s_by_their_ratio() -> None:
    table = made_up(0.0, 0.1, seeds=3).assign(condition_number_run=20.0, condition_number_reference=20.0)
    large = table["batch_size"] == 8192
    twice = table["condition_number_run"].where(~large, 40.0 + table["seed"])
    row = verdict(table.assign(condition_number_run=twice), "condition_number_over_reference_rises")
    assert (row["verdict"], row["effect_unit"]) == ("supported", "times")
    assert row["effect"] == pytest.approx(2.05, abs=0.01)
    assert row["quantity"] == "condition_number_run / condition_number_reference"
    both = table.assign(condition_number_run=twice, condition_number_reference=twice)
    assert verdict(both, "condition_number_over_reference_rises")["why"] == UNCHANGED
    infinite = table.assign(condition_number_run=np.inf, condition_number_reference=np.inf)
    assert "condition_number_over_reference_rises" not in set(evaluate({"runs": infinite}, infinite, PLAIN)["claim"])


def test_a_correlation_over_two_levels_is_undecided_and_not_corrected_for() -> None:
    table = made_up(0.5, 0.4, sizes=(128, 512), seeds=3)
    table = table.assign(train_loss=table["test_error_pct"], **{"near_rank_run_0.0001_full": table["batch_size"]})
    row = verdict(table, "near_rank_with_train_loss")
    assert (row["verdict"], row["p_corrected"]) == ("undecided", 1.0)
    assert "fewer than three levels" in row["why"]


def test_a_correlation_with_what_follows_batch_size_says_that_it_is_the_same_test() -> None:
    table = made_up(0.5, 0.4, seeds=3)
    follows = table["batch_size"] + 0.0
    for counts, said in ((follows, True), (follows.where(table["batch_size"] != 512, 0), False)):
        here = table.assign(train_loss=table["test_error_pct"], **{"near_rank_run_0.0001_full": counts})
        also = verdict(here, "near_rank_with_train_loss")["also"]
        assert ("this is the test whether train_loss rises" in also) == said


def test_a_width_at_which_a_seed_failed_is_left_out_at_whichever_batch_size() -> None:
    widths = ("lenet5_w0.5", "lenet5", "lenet5_w2", "lenet5_w4")
    table = pd.concat(made_up(0.1, 0.01, seeds=3, sizes=(128, 8192)).assign(model=name) for name in widths)
    for failed in ((8192,), (128, 8192)):
        lost = (table["model"] == "lenet5_w2") & (table["seed"] == 1) & table["batch_size"].isin(failed)
        row = verdict(table.assign(status=np.where(lost, "diverged", "ok")), "width_shrinks_gap", arm="width")
        assert (row["n"], row["levels"]) == (3, "0.5, 1, 4")


def test_counts_that_errors_leave_open_are_said() -> None:
    table = made_up(0.5, 0.2, seeds=3)
    counts = {f"near_rank_{of}_0.0001_excess": table["batch_size"] for of in ("run", "untrained")}
    flags = {
        "near_rank_run_0.0001_undecidable": 0,
        "near_rank_untrained_0.0001_undecidable": 4 * (table["batch_size"] > 1024),
    }
    table = table.assign(**counts, **flags)
    said = "In 9 of 18 runs the errors of singular values leave a count open."
    assert verdict(table, "excess_rises")["caution"] == ""
    for claim in ("untrained_excess_rises", "excess_over_untrained_rises"):
        assert said in verdict(table, claim)["caution"]


def test_eigenvalues_are_counts_like_singular_values() -> None:
    table = made_up(0.0, 0.1, seeds=3, sizes=(256, 6000))
    alike = 9 * (table["batch_size"] == 6000)
    row = verdict(table.assign(hessian_above_level=alike), "hessian_count_rises")
    assert row["p"] == pytest.approx(stats.t.sf(9 * 6, 2), rel=1e-9)
