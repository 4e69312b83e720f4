"""Verdicts on made-up runs whose answer is known."""

import re

import numpy as np
import pandas as pd
import pytest
from made_up_runs import MARGINS, SIZES, evaluated, made_up, verdict
from scipy import stats

from gapscope import papers
from gapscope.claims import hypothesis_tests as tests
from gapscope.claims import power
from gapscope.claims.slopes import slope_resolution, slopes
from gapscope.claims.verdicts import ClaimSettings
from gapscope.errors import InputError

UNCHANGED = tests.UNCHANGED.why


def numbers_in(text: str) -> list[float]:
    """The numbers of a sentence, whose words are free."""
    return [float(found) for found in re.findall(r"\d+(?:\.\d+)?", text)]


def test_a_planted_rise_is_supported_and_a_planted_fall_contradicts() -> None:
    assert verdict(made_up(0.5, 0.2, seeds=3))["verdict"] == "supported"
    assert verdict(made_up(-0.5, 0.2, seeds=3))["verdict"] == "contradicted"
    assert verdict(made_up(0.0, 0.2, seeds=3))["verdict"] == "undecided"


def test_a_planted_null_is_no_effect_and_an_effect_as_large_as_the_margin_is_not() -> None:
    """The margin is 0.5 points, between the first batch size and any other one."""
    assert verdict(made_up(0.0, 0.05, seeds=5))["verdict"] == "no effect"
    between = made_up(0.0, 0.05, seeds=5)
    between.loc[between["batch_size"] == 1024, "test_error_pct"] += 0.6  # the ends are equal
    assert verdict(between)["verdict"] != "no effect"
    small = verdict(made_up(0.05, 0.01, seeds=5))  # an order that is significant, of an effect within the margin
    assert (small["verdict"], small["effect"]) == ("supported", pytest.approx(0.25, abs=0.02))


def test_the_p_value_of_no_effect_is_that_of_two_one_sided_t_tests_at_the_worst_level() -> None:
    changes = np.random.default_rng(0).normal(0.1, 0.2, (6, 3))
    each = [
        max(
            stats.ttest_1samp(of, -0.5, alternative="greater").pvalue,
            stats.ttest_1samp(of, 0.5, alternative="less").pvalue,
        )
        for of in changes.T
    ]
    assert tests.equivalence(changes, 0.5) == pytest.approx(max(each), rel=1e-9)
    assert tests.equivalence(changes, 0.05) > 0.5  # planted: a margin that the effect exceeds
    assert tests.equivalence(np.zeros((3, 2)), 0.5) == 0.125  # three equal signs, not certainty


def test_an_undecided_claim_says_how_many_seeds_would_decide_it() -> None:
    row = verdict(made_up(0.08, 0.35, seeds=3, seed=1))
    assert row["verdict"] == "undecided"
    assert row["seeds_needed"] in numbers_in(row["why"])
    decided = [verdict(made_up(0.08, 0.35, seeds=int(row["seeds_needed"]), seed=seed))["verdict"] for seed in range(40)]
    assert 20 <= len(decided) - decided.count("undecided") <= 40  # planned for 80 %, from an effect that was estimated
    assert np.isnan(verdict(made_up(0.5, 0.1, seeds=3))["seeds_needed"])


def test_the_slope_is_per_doubling_with_a_slope_for_each_seed() -> None:
    table = made_up(0.5, 0.2, seeds=4)
    each = [np.polyfit(np.log2(of["batch_size"]), of["test_error_pct"], 1)[0] for _, of in table.groupby("seed")]
    expected = stats.ttest_1samp(each, 0).confidence_interval(0.95)
    row = verdict(table)
    assert row["slope"] == pytest.approx(np.mean(each), rel=1e-9)
    assert (row["slope_low"], row["slope_high"]) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert "doubling" in row["slope_unit"]


def test_a_rise_whose_slope_differs_too_much_between_seeds_is_undecided() -> None:
    """All three seeds rise in the same order, which alone has p = 1/720^3; the slopes are 0.1, 0.2 and 2."""
    table = made_up(0.0, 0.0, seeds=3)
    rise = table["seed"].map({0: 0.1, 1: 0.2, 2: 2.0}) * np.log2(table["batch_size"])
    row = verdict(table.assign(test_error_pct=rise))
    assert row["verdict"] == "undecided"
    assert row["p_corrected"] < 1e-6
    assert row["p_slope"] == pytest.approx(stats.ttest_1samp([0.1, 0.2, 2.0], 0, alternative="greater").pvalue)
    assert row["seeds_needed"] in numbers_in(row["why"])
    fall = verdict(table.assign(test_error_pct=-rise))
    assert (fall["verdict"], fall["p_slope"]) == ("undecided", pytest.approx(row["p_slope"]))


def test_slopes_of_counts_have_the_spread_of_rounding() -> None:
    """Three seeds count alike. One value more at the largest of six batch sizes tells nothing; a thousand do."""
    x, counts = np.arange(6.0), np.zeros((3, 6))
    for more, low, high in ((1.0, 0.02, 0.5), (1000.0, 0.0, 1e-3)):
        counts[:, -1] = more
        resolution = slope_resolution(x, 1 / (1 + counts.mean(axis=0)))
        assert low < tests.paired(slopes(x, np.log1p(counts)), resolution).p_rises < high


def test_most_of_a_change_that_is_there_without_training_is_by_construction() -> None:
    table = made_up(0.0, 0.1, seeds=3)
    level = np.log2(table["batch_size"])
    for training, said in ((5 * level, "by construction"), (500 * level + table["seed"], "supported")):
        counted = {"near_rank_run_0.0001_structural": 100 * level, "near_rank_run_0.0001_full": 100 * level + training}
        assert verdict(table.assign(**counted), "near_rank_rises")["verdict"] == said


def test_seeds_that_were_seen_are_left_out_where_there_are_others() -> None:
    table = made_up(0.5, 0.1, seeds=6)
    old = verdict(table[table["seed"] < 3], seen_seeds=(0, 1, 2))
    assert (old["family"], old["n"], old["seeds"]) == ("exploratory", 3, "0-2")
    fresh = verdict(table, seen_seeds=(0, 1, 2))
    assert (fresh["family"], fresh["n"], fresh["seeds"]) == ("primary", 3, "3-5")
    assert verdict(table)["family"] == "primary"
    assert verdict(table)["n"] == 6


def test_a_control_is_tested_only_where_its_claim_is_supported() -> None:
    table = made_up(0.5, 0.2, seeds=3)
    rising, flat = table["batch_size"], table["seed"]
    for run, said in ((rising, "supported"), (flat, "not tested")):
        counts = {"near_rank_run_0.0001_excess": run, "near_rank_probe_0.0001_excess": rising}
        row = verdict(table.assign(**counts), "probe_excess_rises")
        assert (row["family"], row["verdict"]) == ("control", said)


def test_each_claim_that_is_controlled_exists() -> None:
    names = {claim.name for claim in papers.claims()}
    controls = {claim.controls for claim in papers.claims() if claim.controls}
    assert controls
    assert controls <= names


def test_whatever_can_be_shown_to_be_small_has_the_margin_of_its_unit_with_a_reason() -> None:
    """Chance works against claims that are tested in one way; half a gap, a bound, a U and a spread have no margin."""
    without = {"removes_half", "exceeds", "u_shaped", "less_dispersed", "rises_with"}
    for claim in papers.claims():
        counted = claim.unit == "values" and not claim.share  # only as a share of all values
        needed = claim.unit in MARGINS and claim.test not in without and not claim.one_way and not counted
        assert claim.margin == (MARGINS[claim.unit] if needed else None), claim.name
        assert not claim.margin or claim.margin.because


def test_secondary_claims_and_twins_are_not_corrected() -> None:
    table = made_up(0.5, 0.2, seeds=3)
    counts = {f"near_rank_run_{at}_excess": table["batch_size"] for at in ("0.0001", "1e-05")}
    found = evaluated(table.assign(train_error_pct=table["test_error_pct"], **counts), table).set_index("claim")
    assert found.loc["train_error_rises", ["family", "verdict"]].tolist() == ["secondary", "supported"]
    assert np.isnan(found.loc["train_error_rises", "p_corrected"])
    twins = found.loc["excess_rises"].set_index("threshold")
    assert twins["family"].to_dict() == {1e-4: "primary", 1e-5: "twin"}
    assert np.isnan(twins.loc[1e-5, "p_corrected"])
    assert twins.loc[1e-4, "p_corrected"] == pytest.approx(2 * twins.loc[1e-4, "p"])  # of two primary claims


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
    assert row["n"] == seeds
    assert row["effect"] == pytest.approx(25, abs=1)  # shown all the same


@pytest.mark.parametrize("sizes", [SIZES, (256, 6000)], ids=["trend", "two sizes"])
def test_what_never_changes_is_undecided_and_not_corrected_for(sizes: tuple[int, ...]) -> None:
    """Tarone 1990: what can reject at no level is no hypothesis to correct for."""
    table = made_up(0.5, 0.2, seeds=3, sizes=sizes)
    crowd = table.assign(**{"sharpness_full_0.001_pct": table["seed"] + 1.0, "near_rank_run_0.0001_excess": 5})
    assert verdict(crowd)["p_corrected"] == verdict(table)["p_corrected"]
    for claim in ("sharpness_rises", "excess_rises"):
        assert verdict(crowd, claim)[["why", "p_corrected"]].tolist() == [UNCHANGED, 1.0]


@pytest.mark.parametrize("quantity", ["near_rank_run_0.0001_full", "train_loss"])
def test_a_correlation_with_what_does_not_differ_at_the_same_batch_size_is_not_tested(quantity: str) -> None:
    table = made_up(0.5, 0.2, seeds=5)
    table = table.assign(
        **{"near_rank_run_0.0001_full": table["test_error_pct"], "train_loss": table["test_error_pct"]}
    )
    assert verdict(table, "near_rank_with_train_loss")["verdict"] == "supported"
    row = verdict(table.assign(**{quantity: table["batch_size"]}), "near_rank_with_train_loss")
    assert (row["verdict"], row["p"]) == ("undecided", 1.0)
    assert np.isnan(row["effect"])


def test_without_seeds_as_blocks_the_offsets_of_seeds_would_hide_the_rise() -> None:
    table = made_up(0.15, 0.05, seeds=3)
    assert verdict(table)["verdict"] == "supported"
    pooled = stats.spearmanr(table["batch_size"], table["test_error_pct"], alternative="greater").pvalue
    assert pooled > 0.02


def test_primary_claims_are_corrected_for_one_another() -> None:
    table = made_up(0.2, 0.35, seeds=3, seed=3)
    alone, draw = verdict(table), np.random.default_rng(9)
    names = (
        "train_cross_entropy",
        "sharpness_full_0.001_pct",
        "sharpness_random100_0.001_pct",
        "near_rank_run_0.0001_excess",
    )
    crowd = table.assign(**{name: 1 + draw.random(size=len(table)) for name in names})
    corrected = verdict(crowd)
    assert alone["verdict"] == "supported"
    assert corrected["p"] == alone["p"]
    assert corrected["p_corrected"] > 3 * alone["p_corrected"]
    assert corrected["verdict"] == "undecided"
    secondary = table.assign(
        train_error_pct=draw.random(size=len(table)), distance_from_initial=draw.random(size=len(table))
    )
    assert verdict(secondary)["p_corrected"] == alone["p_corrected"]


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
    assert np.isnan(verdict(infinite, "condition_number_rises")[["slope", "p_slope"]].astype(float)).all()
    for claim in ("test_error_rises", "hessian_trace_rises"):
        assert verdict(infinite, claim)["verdict"] == "supported"
        assert verdict(infinite, claim)["p"] == verdict(table, claim)["p"]


@pytest.mark.parametrize("status", ["diverged", "learned nothing"])
def test_a_batch_size_at_which_a_run_failed_is_left_out_and_said(status: str) -> None:
    table = made_up(0.5, 0.2, seeds=3)
    lost = (table["batch_size"] == 8192) & (table["seed"] == 1)
    failed = table.assign(status=np.where(lost, status, "ok"))
    row = verdict(failed)
    assert row["levels"] == "128, 512, 1024, 2048, 4096"
    assert row["n"] == 3
    assert numbers_in(row["caution"]) == [18, 1]
    assert status in row["caution"]
    row = verdict(table, "switching_shrinks_gap", arm="switching", reference_table=failed)
    assert numbers_in(row["caution"])[-2:] == [18, 1]
    assert verdict(table)["caution"] == ""


def test_a_seed_that_diverged_everywhere_is_left_out() -> None:
    table = made_up(0.5, 0.2, seeds=4)
    row = verdict(table.assign(status=np.where(table["seed"] == 2, "diverged", "ok")))
    assert (row["n"], row["levels"], row["verdict"]) == (3, "128, 512, 1024, 2048, 4096, 8192", "supported")
    for sizes in (SIZES, (256, 6000)):
        lost = made_up(0.5, 0.2, seeds=2, sizes=sizes).assign(status="diverged")
        assert evaluated(lost, lost).empty


def test_a_correlation_is_given_the_batch_size() -> None:
    """What both quantities share through the batch size does not count; what they share at one batch size does."""
    table, draw = made_up(0.0, 1.0, seeds=6), np.random.default_rng(0)
    size = np.log2(table["batch_size"])
    for shared, said in ((0.0, "undecided"), (1.0, "supported")):
        own = [0.1 * draw.normal(size=len(table)) for _ in range(2)]
        counts, loss = (10 * size + shared * table["test_error_pct"] + noise for noise in own)
        row = verdict(
            table.assign(**{"near_rank_run_0.0001_full": counts, "train_loss": loss}), "near_rank_with_train_loss"
        )
        assert row["verdict"] == said
    blocks = [
        pd.DataFrame({"level": size, "seed": table["seed"], "x": x}).pivot_table(
            index="seed", columns="level", values="x"
        )
        for x in (counts, loss)
    ]
    each = [stats.spearmanr(blocks[0][level], blocks[1][level]).statistic for level in blocks[0]]
    assert row["effect"] == pytest.approx(np.mean(each), rel=1e-9)
    assert row["effect_low"] < row["effect"] <= row["effect_high"] <= 1


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
    assert row["levels"] == "8192 minus 128"
    row = verdict(arm, "switching_removes_gap", **switched)
    assert row["verdict"] == removes
    assert row["effect"] == pytest.approx(2.5 * (left - 0.5), abs=0.05)
    assert row["effect_low"] < row["effect"] < row["effect_high"]


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
        small, large = re.findall(r"[+−]?\d+(?:\.\d+)?(?:e\S+)?", row["also"])
        assert float(small) == pytest.approx(1.5 - better, abs=0.01)
        assert float(large.replace("−", "-")) == pytest.approx(-better, abs=0.01)


@pytest.mark.parametrize("rise", [0.0, -0.02, -0.2])
@pytest.mark.parametrize("arms", [-0.5, 0.0, 0.5])
def test_no_remedy_shrinks_a_gap_that_is_not_there(rise: float, arms: float) -> None:
    reference, arm = made_up(rise, 0.01, seeds=4), made_up(arms, 0.01, seeds=4, seed=1)
    for claim in ("switching_shrinks_gap", "switching_removes_gap"):
        row = verdict(arm, claim, arm="switching", reference_table=reference)
        assert row["verdict"] in ("undecided", "no effect")


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
        ClaimSettings("switching", "mine", 0.02).check("mine", papers.claims())
    ClaimSettings("switching", "other", 0.02).check("mine", papers.claims())
    ClaimSettings("plain", "mine", 0.02).check("mine", papers.claims())


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
    assert numbers_in(verdict(some, "width_lowers_share", arm="width")["caution"]) == [18, 3]
    assert evaluated(lost, lost, ClaimSettings("width", "x", 0.02)).empty  # 128 is not taken for the largest
    one = table[table["batch_size"] == 128]
    assert "width_shrinks_gap" not in set(evaluated(one, one, ClaimSettings("width", "x", 0.02))["claim"])
    gap = verdict(table, "width_shrinks_gap", arm="width")
    assert gap["effect"] == pytest.approx(0.5 * 0.1 - 0.5 * 0.3, abs=0.05)


def test_an_unknown_arm_is_named() -> None:
    with pytest.raises(InputError, match="switching"):
        ClaimSettings("switchin", "x", 0.02).check("mine", papers.claims())


def test_a_seed_that_is_not_run_yet_at_some_size_is_left_out_and_no_size_with_it() -> None:
    table = made_up(0.5, 0.2, seeds=4)
    begun = table[(table["seed"] < 3) | (table["batch_size"] == 128)]
    row = verdict(begun)
    assert (row["n"], row["levels"], row["verdict"]) == (3, "128, 512, 1024, 2048, 4096, 8192", "supported")


def test_a_seed_without_either_quantity_is_left_out_of_a_correlation() -> None:
    table = made_up(0.5, 0.2, seeds=7)
    counts, loss = table["test_error_pct"].where(table["seed"] != 2), table["test_error_pct"].where(table["seed"] != 4)
    table = table.assign(train_loss=loss, penalty=0.1, **{"near_rank_run_0.0001_full": counts})
    row = verdict(table, "near_rank_with_train_loss")
    assert (row["n"], row["verdict"]) == (5, "supported")


def test_a_penalty_that_rises_less_than_cross_entropy_is_not_the_rise() -> None:
    table = made_up(0.5, 0.01, seeds=3)
    step = table["test_error_pct"]  # rises
    for penalty, said in ((0.01, "contradicted"), (2.0, "supported")):
        row = verdict(table.assign(train_cross_entropy=step, penalty=penalty * step), "penalty_rises_more")
        assert row["verdict"] == said
    without = table.assign(train_cross_entropy=step, penalty=0.0, train_loss=step)
    found = evaluated(without, without)["claim"].tolist()
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


def test_at_equal_updates_a_gap_may_shrink_by_what_becomes_of_the_smallest_batch() -> None:
    """No remedy, but an account of the gap: it is what the small batch gained from more updates."""
    reference, arm = made_up(0.5, 0.001, seeds=4), made_up(0.0, 0.001, seeds=4, seed=1)
    arm = arm.assign(test_error_pct=arm["test_error_pct"] + 9)
    assert (
        verdict(arm, "equal_updates_shrinks_gap", arm="equal_updates", reference_table=reference)["verdict"]
        == "supported"
    )


def test_an_arm_trained_on_another_kind_of_device_is_not_compared() -> None:
    reference, arm = made_up(0.5, 0.01, seeds=4), made_up(0.1, 0.01, seeds=4, seed=1)
    for devices, said in ((("cpu (x86_64)", "cuda (A)"), True), (("cpu (x86_64)", "cpu (arm)"), False)):
        of_arm, of_reference = (
            table.assign(device=name) for table, name in zip((arm, reference), devices, strict=True)
        )
        row = verdict(of_arm, "switching_shrinks_gap", arm="switching", reference_table=of_reference)
        assert (row["verdict"] == "not comparable") == said


def test_batch_sizes_trained_on_several_devices_are_said() -> None:
    table = made_up(0.5, 0.01, seeds=3)
    for small, said in (("cpu", True), ("cuda", False)):
        devices = table["batch_size"].map(lambda size, small=small: small if size == 128 else "cuda")
        caution = verdict(table.assign(device=devices))["caution"]
        assert ("cpu" in caution and "cuda" in caution) == said
        assert numbers_in(caution) == (list(SIZES) if said else [])


def test_warm_starts_trained_on_several_devices_are_said() -> None:
    starts = pd.DataFrame({"start_epoch": [0, 10, 20] * 3, "seed": np.repeat([0, 1, 2], 3), "status": "ok"})
    starts = starts.assign(model="f1", dataset="mnist", large_test_error_pct=3.0 - starts["start_epoch"] / 10)
    starts = starts.assign(device=np.where(starts["seed"] == 1, "cuda", "cpu"))
    (row,) = evaluated(starts, starts, ClaimSettings("warmstart", "x", 0.02)).to_dict("records")
    assert numbers_in(row["caution"])[-6:] == [0, 10, 20, 0, 10, 20]


def test_a_condition_number_is_set_against_its_control_s_by_their_ratio() -> None:
    table = made_up(0.0, 0.1, seeds=3).assign(condition_number_run=20.0, condition_number_reference=20.0)
    large = table["batch_size"] == 8192
    twice = table["condition_number_run"].where(~large, 40.0 + table["seed"])
    row = verdict(table.assign(condition_number_run=twice), "condition_number_over_reference_rises")
    assert (row["verdict"], row["effect_unit"]) == ("supported", "times")
    assert row["effect"] == pytest.approx(2.05, abs=0.01)
    assert (row["quantity"], row["sample"], row["compared_with"]) == (
        "condition_number", "run", "condition_number (reference)"
    )  # fmt: skip
    both = table.assign(condition_number_run=twice, condition_number_reference=twice)
    assert verdict(both, "condition_number_over_reference_rises")["why"] == UNCHANGED
    infinite = table.assign(condition_number_run=np.inf, condition_number_reference=np.inf)
    assert "condition_number_over_reference_rises" not in set(evaluated(infinite, infinite)["claim"])


def test_a_correlation_of_few_seeds_says_how_small_its_p_value_can_be() -> None:
    table = made_up(0.5, 0.4, sizes=(128, 512), seeds=3)
    table = table.assign(train_loss=table["test_error_pct"], **{"near_rank_run_0.0001_full": table["test_error_pct"]})
    row = verdict(table, "near_rank_with_train_loss")
    assert (row["verdict"], row["p"]) == ("undecided", pytest.approx(1 / 6, rel=1e-12))
    assert numbers_in(row["also"]) == [3, 0.17]
    assert row["seeds_needed"] in numbers_in(row["why"])
    opposite = table.assign(train_loss=-table["test_error_pct"])  # as many seeds would contradict the claim
    assert verdict(opposite, "near_rank_with_train_loss")["seeds_needed"] == row["seeds_needed"]


def test_the_seeds_that_a_correlation_needs_have_orders_enough() -> None:
    """One order of n seeds has the probability 1 / n!, however large the correlation is."""
    assert [power.seeds_for_correlation(1.0, 0.01, level) for level in (0.2, 0.05, 0.01, 0.001)] == [3, 4, 5, 7]
    assert power.seeds_for_correlation(0.5, 1.0, 0.05) == 26  # 1 + ((1.645 + 0.842) / 0.5)^2 = 25.7
    assert power.seeds_for_correlation(-0.5, 1.0, 0.05) is None
    assert power.seeds_for_correlation(0.1, 1.0, 0.05) is None  # more than 100


@pytest.mark.parametrize("noise", [0.7, 1.5])
def test_the_seeds_that_a_correlation_needs_decide_it_about_as_often_as_planned(noise: float) -> None:
    """With the true correlation the plan is for 80 %; half as many seeds decide clearly less often."""

    def both(seeds: int, trial: int) -> tuple[np.ndarray, np.ndarray]:
        one, own = np.random.default_rng((trial, seeds)).normal(size=(2, seeds, 6))
        return one, one + noise * own

    def decided(seeds: int) -> float:
        p = [tests.correlation_given_level(*both(seeds, trial)).p_rises for trial in range(100)]
        return float(np.mean(np.array(p) <= 0.05))

    many = both(1000, 0)
    true, variance = float(tests.rank_correlations(*(of.T for of in many)).mean()), tests.correlation_variance(*many)
    assert variance == pytest.approx(1 / 6, rel=0.2)  # six independent levels
    needed = power.seeds_for_correlation(true, variance, 0.05)
    assert needed is not None
    assert decided(needed) == pytest.approx(0.8, abs=0.15)
    assert decided(needed - 2) < 0.6


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
    assert verdict(table, "excess_rises")["caution"] == ""
    for claim in ("untrained_excess_rises", "excess_over_untrained_rises"):
        assert numbers_in(verdict(table, claim)["caution"])[-2:] == [9, 18]


def test_eigenvalues_are_counts_like_singular_values() -> None:
    table = made_up(0.0, 0.1, seeds=3, sizes=(256, 6000))
    alike = 9 * (table["batch_size"] == 6000)
    row = verdict(table.assign(hessian_above_level=alike), "hessian_count_rises")
    assert row["p"] == pytest.approx(stats.t.sf(9 * 6, 2), rel=1e-9)


def test_the_seeds_of_a_verdict_are_those_that_have_the_quantity() -> None:
    table = made_up(0.5, 0.2, seeds=4)
    table.loc[table["seed"].isin([1, 3]), "test_error_pct"] = np.nan
    found = verdict(table)
    assert (found["seeds"], found["n"]) == ("0, 2", 2)


def test_never_fewer_seeds_are_said_to_decide_than_can_decide() -> None:
    clear = np.array([1.0, 1.001])
    assert power.seeds_for_difference(clear, 0.05) == tests.ENOUGH
    assert power.seeds_for_trend(clear, 100, 0.05) == tests.ENOUGH
    assert power.seeds_for_equivalence(0.001 * clear[:, None], 1.0, 0.05) == tests.ENOUGH
