"""Claims that compare a study with its reference: values, equality, and spread over seeds."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up_runs import MARGINS, evidence, made_up
from scipy import stats

from gapscope.claims import hypothesis_tests as tests
from gapscope.claims.claim import Claim, Measured
from gapscope.claims.verdicts import ClaimSettings, evaluate

TRIALS, MOST = 400, 18  # as in test_stated_values: 2 % of 400, exceeded with a probability of 0.1 %
ERROR = Measured("error_pct", {"split": "test", "statistics": "reestimated"})
ARM = ClaimSettings(arm="arm", reference="made_up", level=0.02)


def row(test: str, ours: pd.DataFrame, theirs: pd.DataFrame, **more: Any) -> pd.Series:
    claim = Claim("a", "It does", "nowhere", test, ERROR, "points", arm="arm", margin=MARGINS["points"], **more)
    return evaluate([claim], evidence(ours), evidence(theirs), ARM).iloc[0]


def pair(change: float, noise: float = 0.05, seeds: int = 4, **more: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A study and its reference, whose seeds share an offset; the study's errors are larger by `change`."""
    theirs = made_up(0.5, noise, seeds, **more)
    draw = np.random.default_rng(97)
    return theirs.assign(
        test_error_pct=theirs["test_error_pct"] + change + noise * draw.normal(size=len(theirs))
    ), theirs


@pytest.mark.parametrize(
    ("test", "change", "said"),
    [
        ("below_reference", -0.3, "supported"),
        ("below_reference", 0.3, "contradicted"),
        ("below_reference", 0.0, "no effect"),
        ("above_reference", 0.3, "supported"),
        ("same_as_reference", 0.0, "supported"),
        ("same_as_reference", 1.0, "contradicted"),
        ("same_as_reference", 0.5, "undecided"),
    ],
)
def test_a_planted_change_against_the_reference_is_found(test: str, change: float, said: str) -> None:
    found = row(test, *pair(change))
    assert found["verdict"] == said
    assert found["effect"] == pytest.approx(change, abs=0.05)
    assert found["n"] == 4


def test_the_change_is_paired_by_seed_and_its_p_value_is_that_of_the_t_test() -> None:
    ours, theirs = pair(-0.1, noise=0.1)
    each = (
        (ours.set_index("seed")["test_error_pct"] - theirs.set_index("seed")["test_error_pct"]).groupby("seed").mean()
    )
    found = row("below_reference", ours, theirs)
    assert found["p"] == pytest.approx(stats.ttest_1samp(each, 0, alternative="less").pvalue, rel=1e-6)
    unpaired = stats.ttest_ind(ours["test_error_pct"], theirs["test_error_pct"], alternative="less").pvalue
    assert unpaired > 10 * found["p"]  # planted: seeds not paired


def test_equality_has_to_hold_at_every_batch_size_that_is_compared() -> None:
    ours, theirs = pair(0.0)
    ours.loc[ours["batch_size"] == 8192, "test_error_pct"] += 1.0
    assert row("same_as_reference", ours, theirs)["verdict"] == "contradicted"
    found = row("same_as_reference", ours, theirs, only=1024)
    assert (found["verdict"], found["levels"]) == ("supported", "1024")
    assert row("same_as_reference", ours, theirs, only=64)["verdict"] == "not testable"


def test_an_arm_without_batch_sizes_in_common_is_not_testable() -> None:
    ours, theirs = pair(0.0)
    assert row("below_reference", ours[ours["batch_size"] == 128], theirs[theirs["batch_size"] == 512])["n"] == 0


def spread(ratio: float, seeds: int, trial: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A study and its reference, which varies `ratio` times as much; at two batch sizes."""
    draw = np.random.default_rng((trial, seeds))
    theirs = made_up(0.0, 0.0, seeds, sizes=(128, 8192))
    noise = draw.normal(size=(2, len(theirs)))
    return theirs.assign(test_error_pct=8 + noise[0]), theirs.assign(test_error_pct=8 + ratio * noise[1])


def test_a_smaller_spread_is_found_with_ten_seeds_and_not_asked_for_with_nine() -> None:
    assert row("less_dispersed", *spread(8, 10))["verdict"] == "supported"
    assert row("less_dispersed", *spread(1 / 8, 10))["verdict"] == "contradicted"
    found = row("less_dispersed", *spread(8, 9))
    assert (found["verdict"], found["p"]) == ("undecided", 1.0)
    assert "9 seeds" in found["why"]
    assert found["levels"] == "8192"


def test_the_spread_is_tested_as_brown_and_forsythe_do() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 12)) * [[1], [2]]
    outcome, effect = tests.dispersion(one, other)
    two_sided = stats.levene(one, other, center="median").pvalue
    assert 2 * min(outcome.p_rises, outcome.p_falls) == pytest.approx(two_sided, rel=1e-9)
    distances = [np.abs(of - np.median(of)) for of in (one, other)]
    expected = stats.ttest_ind(*distances).confidence_interval(0.95)
    assert (effect.low, effect.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert stats.levene(one, other, center="mean").pvalue != pytest.approx(two_sided, rel=1e-3)  # planted: Levene 1960
    assert tests.dispersion(one, one + 5)[0].p_falls == pytest.approx(0.5)  # where they lie does not count


@pytest.mark.parametrize("skewed", [False, True])
def test_equal_spreads_are_seldom_told_apart(skewed: bool) -> None:
    false = f_test = 0
    for trial in range(TRIALS):
        values = np.random.default_rng((trial, 10)).normal(size=(2, 10))
        one, other = np.exp(values) if skewed else values
        false += tests.dispersion(one, other)[0].p_falls <= 0.02
        f_test += stats.f.cdf(one.var(ddof=1) / other.var(ddof=1), 9, 9) <= 0.02
    assert 0 < false <= MOST
    if skewed:
        assert f_test > MOST  # planted: the F test of variances, which needs normal values
