"""How often the tests of claims err, how often their intervals cover, and what they can find: simulated runs.

    python benchmarks/verdicts.py                  # the whole of benchmarks/verdicts.md
    python benchmarks/verdicts.py nulls families   # these sections alone; the others stay as they are

Each section is written as soon as it is done, with its command, date and seconds. So a run that was stopped goes on
with the names of the sections that are left. The section on correlations takes most of the time.

Runs have six batch sizes, 128 to 8192, and an offset for each seed. Noise is of several kinds, some of which break what
a test assumes. All numbers are shares of `TRIALS` simulated studies; their standard error is at most 1.6 points.
"""

import argparse
import re
import time
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gapscope.claims import hypothesis_tests as tests
from gapscope.claims.slopes import slopes
from gapscope.claims.stated_values import fisher

Array = NDArray[np.float64]
SIZES = np.log2([128, 512, 1024, 2048, 4096, 8192])
SEEDS = (3, 5, 8, 10)
TRIALS, LEVEL = 1000, 0.02
CLAIMS = 5  # of a family
FIRST = LEVEL / CLAIMS  # of the first step of Holm's correction
PAGE = Path(__file__).with_suffix(".md")
EXPONENT, BOUND = 0.05, 0.8  # margin of an exponent; bound on a rank correlation
SKEW = np.exp(0.5)  # mean of a lognormal variable


def normal(draw: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Normal noise, the same at every batch size."""
    return draw.normal(size=shape)


def fanned(draw: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Normal noise, ten times as large at the largest batch size as at the smallest."""
    return draw.normal(size=shape) * np.geomspace(0.2, 2, shape[1])


def skewed(draw: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Lognormal noise with mean 0, the same at every batch size."""
    return draw.lognormal(size=shape) - SKEW


def fanned_and_skewed(draw: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Lognormal noise with mean 0 that grows tenfold: the mean stands still, and the median falls."""
    return skewed(draw, shape) * np.geomspace(0.2, 2, shape[1])


def slopes_of_seeds(draw: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Normal noise, and a slope over the batch size for each seed, with mean 0."""
    return 0.5 * draw.normal(size=shape) + 0.2 * draw.normal(size=(shape[0], 1)) * (SIZES - SIZES.mean())


NOISES = (normal, fanned, skewed, fanned_and_skewed, slopes_of_seeds)


def studies(noise: Callable[[np.random.Generator, tuple[int, int]], Array], n: int) -> Iterable[Array]:
    """Yield (seeds, batch sizes), without any effect."""
    for trial in range(TRIALS):
        draw = np.random.default_rng((trial, n))
        yield noise(draw, (n, len(SIZES))) + 3 * draw.normal(size=(n, 1))


def covers(effect: tests.Effect, truth: float) -> bool:
    """Return whether an interval holds the true value."""
    assert effect.low is not None
    assert effect.high is not None
    return effect.low <= truth <= effect.high


def slope_test(y: Array) -> tests.Outcome:
    """Return Student's t test of the slopes, one per seed."""
    return tests.paired(slopes(SIZES, y))


def percent(found: Iterable[bool]) -> str:
    """Return the share of what is true."""
    return f"{100 * np.mean(list(found)):.1f}"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    heads = list(heads)
    return "\n".join(
        [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    )


def p_trend(y: Array) -> Array:
    """Return p values (2, 2) of a rise and of a fall, by Page's test and by the t test of the slopes."""
    return np.array([[of.p_rises, of.p_falls] for of in (tests.trend(SIZES, y), slope_test(y))])


def false_rises(noise: Callable[..., Array], n: int) -> list[str]:
    """Return how often each test finds a rise or a fall that is not there, and how often both intervals hold 0."""
    every = list(studies(noise, n))
    trends, change = np.array([p_trend(y) for y in every]), [y[:, -1] - y[:, 0] for y in every]
    ends = np.array([[of.p_rises, of.p_falls] for of in map(tests.paired, change)])
    return [
        *(percent(p <= LEVEL) for test in (trends.max(axis=1), trends[:, 0], trends[:, 1], ends) for p in test.T),
        percent(covers(tests.interval(of), 0.0) for of in change),
        percent(covers(tests.interval(slopes(SIZES, y)), 0.0) for y in every),
    ]


def false_families(noise: Callable[..., Array], n: int) -> list[str]:
    """Return how often a rise is found in a family of claims without any, by three rules.

    By Page's test alone, corrected; with the slopes at `LEVEL`, as a verdict is; with the slopes corrected as well.
    """
    found = []
    for trial in range(TRIALS):
        draw = np.random.default_rng((trial, n, 5))
        family = [noise(draw, (n, len(SIZES))) + 3 * draw.normal(size=(n, 1)) for _ in range(CLAIMS)]
        page, slope = np.array([p_trend(y)[:, 0] for y in family]).T
        corrected = np.array(tests.holm(list(page), CLAIMS))
        both = tests.holm(list(np.maximum(page, slope)), CLAIMS)
        found.append((min(corrected) <= LEVEL, min(np.maximum(corrected, slope)) <= LEVEL, min(both) <= LEVEL))
    return [percent(of) for of in zip(*found, strict=True)]


def correlated(n: int, own: float, slopes: bool) -> str:
    """Return how often two quantities that both rise with b, and share no noise, are said to correlate given b."""
    found = []
    for trial in range(TRIALS):
        draw = np.random.default_rng((trial, n, 1))
        noise = slopes_of_seeds if slopes else normal
        one, other = (noise(draw, (n, len(SIZES))) + own * draw.normal(size=(n, 1)) + 5 * SIZES for _ in range(2))
        found.append(tests.correlation_given_level(one, other).p_rises <= LEVEL)
    return percent(found)


def found_rises(n: int, rise: float) -> list[str]:
    """Return how often a rise between the ends, in standard deviations of a run, is found by each test.

    The first four numbers are at `LEVEL`. For the last two Page's test is at `FIRST`, and for the last the slopes too.
    """
    steps = (SIZES - SIZES[0]) / (SIZES[-1] - SIZES[0])
    every = [y + rise * steps for y in studies(normal, n)]
    page, slope = np.array([p_trend(y)[:, 0] for y in every]).T
    ends = np.array([tests.paired(y[:, -1] - y[:, 0]).p_rises for y in every])
    shown = slope <= LEVEL
    return [
        *(percent(of) for of in (shown & (page <= LEVEL), page <= LEVEL, shown, ends <= LEVEL)),
        *(percent(of) for of in (shown & (page <= FIRST), (slope <= FIRST) & (page <= FIRST))),
    ]


def equivalent(n: int, margin: float, effect: float) -> str:
    """Return how often "no effect" is found; margin and the effect at the largest batch size in standard deviations."""
    shift = np.zeros(len(SIZES))
    shift[-1] = effect
    changes = [(y + shift)[:, 1:] - y[:, :1] for y in studies(normal, n)]
    return percent(tests.equivalence(of, margin) <= LEVEL for of in changes)


def exponents(n: int, truth: Array) -> list[str]:
    """Return how often local exponents are found within 0.05 of the stated one, and outside at one step.

    Args:
        n: seeds.
        truth: (steps,) true exponents minus the stated one. Each seed's has a standard deviation of 0.02.
    """
    found = []
    for trial in range(TRIALS):
        differences = truth + 0.02 * np.random.default_rng((trial, n, 2)).normal(size=(n, len(truth)))
        within = tests.equivalence(differences, EXPONENT) <= LEVEL
        found.append((within, min(tests.outside(differences, EXPONENT)) <= LEVEL))
    return [percent(of) for of in zip(*found, strict=True)]


def orders(draw: np.random.Generator, n: int, noise: float) -> Array:
    """Return (n,) rank correlations of ten tensors' known order with one that has noise."""
    known = np.broadcast_to(np.arange(10.0), (n, 10))
    return tests.rank_correlations(known, known + noise * draw.normal(size=(n, 10)))


def noise_of_orders(correlation: float) -> float:
    """Return the noise at which the rank correlation is the given one, as a mean of Fisher's z."""
    low, high = 0.0, 30.0
    for _ in range(30):
        noise = (low + high) / 2
        above = fisher(orders(np.random.default_rng(0), 20_000, noise)).mean() > np.arctanh(correlation)
        low, high = (noise, high) if above else (low, noise)
    return noise


def ordered(n: int, noise: float) -> list[str]:
    """Return how often ten tensors are said to be ordered with a correlation above 0.8, and below it."""
    found = []
    for trial in range(TRIALS):
        outcome = tests.paired(fisher(orders(np.random.default_rng((trial, n, 3)), n, noise)) - np.arctanh(BOUND))
        found.append((outcome.p_rises <= LEVEL, outcome.p_falls <= LEVEL))
    return [percent(of) for of in zip(*found, strict=True)]


def u_shaped(n: int, ends: tuple[float, float], dip: float) -> list[str]:
    """Return how often a U is found and contradicted; both ends and one level between are moved by so many SDs."""
    shift = np.zeros(len(SIZES))
    shift[[0, -1]], shift[2] = ends, -dip
    outcomes = [tests.u_shape(y + shift)[0] for y in studies(normal, n)]
    return [percent(getattr(of, p) <= LEVEL for of in outcomes) for p in ("p_rises", "p_falls")]


def dispersed(n: int, ratio: float, shared: float, skewed_noise: bool) -> str:
    """Return how often the second of two studies, with this ratio of deviations, is said to vary less.

    `shared` is the correlation of the two runs of a seed.
    """
    found = []
    for trial in range(TRIALS):
        draw = np.random.default_rng((trial, n, 4))
        one, other = np.linalg.cholesky([[1, shared], [shared, 1]]) @ draw.normal(size=(2, n))
        first, second = (np.exp(of) if skewed_noise else of for of in (one, other))
        found.append(tests.dispersion(second, ratio * first)[0].p_falls <= LEVEL)
    return percent(found)


def by_seeds(rows: Callable[[int], Iterable[str]], seeds: Iterable[int] = SEEDS) -> list[list[str]]:
    """Return one row per number of seeds."""
    return [[f"{n}", *rows(n)] for n in seeds]


def nulls() -> str:
    """Where nothing happens."""
    heads = ["noise", "seeds"]
    for test in ("the verdict, both tests", "Page's test", "t test of the slopes", "t test of the ends"):
        heads += [f"{test}: rise", "fall"]
    heads += ["interval of the change holds 0", "interval of the slope holds 0"]
    rows = [[str(noise.__doc__).rstrip("."), f"{n}", *false_rises(noise, n)] for noise in NOISES for n in SEEDS]
    return (
        "False rises and falls should be at most 2. The intervals should hold the true value in 95. The verdict on a\n"
        "trend needs Page's test and the t test of the slopes. Sharpness, whose noise is a factor that grows with the\n"
        "batch size, is tested by its logarithms, and these have noise of the second kind.\n\n" + table(heads, rows)
    )


def families() -> str:
    """A family of five claims where nothing happens."""
    rules = ["Page's test, corrected", "the verdict: and the slopes, not corrected", "and the slopes, corrected"]
    kinds = (normal, fanned, slopes_of_seeds)
    rows = [[str(noise.__doc__).rstrip("."), f"{n}", *false_families(noise, n)] for noise in kinds for n in SEEDS]
    return (
        "Shares of families in which at least one rise is found; at most 2 is right. The claims are independent.\n\n"
        + table(["noise", "seeds", *rules], rows)
    )


def correlations() -> str:
    """Two quantities that rise with b and share no noise."""
    kinds = [("independent runs", 0.0, False), ("offsets of seeds", 3.0, False), ("slopes of seeds", 0.0, True)]
    rows = [[name, *(correlated(n, own, slopes) for n in SEEDS)] for name, own, slopes in kinds]
    return (
        "Shares of studies in which they are said to correlate at the same batch size; at most 2 is right.\n\n"
        + table(["noise", *(f"{n} seeds" for n in SEEDS)], rows)
    )


def rises() -> str:
    """What is found: a rise between the ends, in standard deviations of a run."""
    rows = [[f"{rise:g}", f"{n}", *found_rises(n, rise)] for rise in (1, 2, 3, 5) for n in SEEDS]
    heads = ["rise", "seeds", "the verdict, both tests", "Page's test", "t test of the slopes", "t test of the ends"]
    return f"In the last two columns the level is {FIRST:.1%}, as for the first of {CLAIMS} claims.\n\n" + table(
        [*heads, f"the verdict, of {CLAIMS} claims", "and the slopes, corrected"], rows
    )


def no_effects() -> str:
    """No effect."""
    rows = [
        [f"{margin:g}", f"{n}", *(equivalent(n, margin, effect) for effect in (0.0, margin / 2, margin))]
        for margin in (2, 5, 10)
        for n in SEEDS
    ]
    return "Margin and effect are in standard deviations of a run. In the last column at most 2 is right.\n\n" + table(
        ["margin", "seeds", "no effect", "half the margin", "the margin"], rows
    )


def stated_exponents() -> str:
    """A stated exponent, at six steps."""
    truths = (np.zeros(6), np.eye(6)[0] * EXPONENT, np.full(6, EXPONENT), np.eye(6)[0] * 2 * EXPONENT)

    def row(n: int) -> list[str]:
        exact, edge, edges, beyond = (exponents(n, truth) for truth in truths)
        return [exact[0], edge[0], exact[1], edge[1], edges[1], beyond[1]]

    heads = ["seeds", "within: exact", "within: one at the margin", "outside: exact", "outside: one at the margin"]
    return (
        "The margin is 0.05, and a seed's exponents have a standard deviation of 0.02. Where the truth is the margin,\n"
        "at one step or at all, at most 2 is right.\n\n"
        + table([*heads, "outside: all at the margin", "outside: one at twice the margin"], by_seeds(row))
    )


def orders_of_layers() -> str:
    """Order of ten layers, against a rank correlation of 0.8."""
    noises = {truth: noise_of_orders(truth) for truth in (BOUND, 0.95, 0.5)}
    heads = ["seeds", *(f"{truth:g}: {side}" for truth in noises for side in ("above", "below"))]
    rows = by_seeds(lambda n: (part for of in noises.values() for part in ordered(n, of)))
    return "Correlations are tested as Fisher's z. Where the true mean is the bound, at most 2 is right.\n\n" + table(
        heads, rows
    )


def u_shapes() -> str:
    """U shape, six batch sizes."""
    cases = {
        "flat": ((0, 0), 0),
        "one end up": ((10, 0), 0),
        "ends up by 3": ((3, 3), 0),
        "ends up, a dip": ((3, 3), 2),
        "last end down by 3": ((0, -3), 0),
    }
    heads = ["seeds", *(f"{name}: {side}" for name in cases for side in ("U", "against"))]
    rows = by_seeds(lambda n: (part for of in cases.values() for part in u_shaped(n, *of)))
    return (
        "Effects in standard deviations of a run. Without a U at most 2 is right, and with one no contradiction.\n\n"
        + table(heads, rows)
    )


def spreads() -> str:
    """Spread over seeds, Brown-Forsythe."""
    heads = ["seeds", "equal", "equal, runs of a seed correlated (0.8)", "equal, lognormal"]
    heads += [f"{ratio} times the spread" for ratio in (2, 3)]
    kinds = ((1, 0.0, False), (1, 0.8, False), (1, 0.0, True), (2, 0.0, False), (3, 0.0, False))
    rows = by_seeds(lambda n: (dispersed(n, *kind) for kind in kinds), seeds=(10, 20))
    return "Shares of studies that are said to vary less. At equal spread at most 2 is right.\n\n" + table(heads, rows)


SECTIONS = (
    nulls, families, correlations, rises, no_effects, stated_exponents, orders_of_layers, u_shapes, spreads
)  # fmt: skip
OPENING = f"""# How often the tests of claims err, and what they find

`python benchmarks/verdicts.py` makes this page: {TRIALS:,} simulated studies for each number. The significance level
is {LEVEL:.0%}, not corrected unless it says so. Numbers are in percent. Their standard error is at most 1.6 points.
"""


def title(section: Callable[[], str]) -> str:
    """Return the title of a section."""
    return str(section.__doc__).rstrip(".")


def measured(section: Callable[[], str]) -> str:
    """Return a section as it stands on the page: its text, and how it was made."""
    start = time.process_time()
    body = section()
    seconds = time.process_time() - start
    made = f"`python benchmarks/verdicts.py {section.__name__}`, {date.today()}, {seconds:,.0f} s of one core."
    return f"{body}\n\nMade by {made}\n"


def main() -> None:
    """Make the sections that are named, or all of them, and write the page after each."""
    names = [section.__name__ for section in SECTIONS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"default: all of {', '.join(names)}")
    chosen = parser.parse_args().sections or names
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"unknown section {', '.join(unknown)}; there are {', '.join(names)}")
    texts = dict(re.findall(r"^## (.+?)\n\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE))
    for section in SECTIONS:
        if section.__name__ in chosen:
            texts[title(section)] = measured(section)
            parts = [f"## {title(of)}\n\n{texts[title(of)].strip()}\n" for of in SECTIONS if title(of) in texts]
            PAGE.write_text("\n".join([OPENING, *parts]), encoding="utf-8")
            print(f"{section.__name__}: done", flush=True)


if __name__ == "__main__":
    main()
