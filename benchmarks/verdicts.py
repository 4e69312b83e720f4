"""How often the tests of claims err, how often their intervals cover, and what they can find: simulated runs.

    python benchmarks/verdicts.py > benchmarks/verdicts.md

Runs have six batch sizes, 128 to 8192, and an offset for each seed. Noise is of several kinds, some of which break what
a test assumes. All numbers are shares of `TRIALS` simulated studies; their standard error is at most 1.6 points.
"""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gapscope.claims import hypothesis_tests as tests
from gapscope.claims.stated_values import fisher

Array = NDArray[np.float64]
SIZES = np.log2([128, 512, 1024, 2048, 4096, 8192])
SEEDS = (3, 5, 8, 10)
TRIALS, LEVEL = 1000, 0.02
FIRST = LEVEL / 5  # of the first step of Holm's correction, for five claims
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


def on_a_logarithmic_scale(draw: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Logarithms of a quantity whose noise is a factor that grows with the batch size, as sharpness has it."""
    return draw.normal(size=shape) * np.geomspace(0.1, 1, shape[1])


def slopes_of_seeds(draw: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Normal noise, and a slope over the batch size for each seed, with mean 0."""
    return 0.5 * draw.normal(size=shape) + 0.2 * draw.normal(size=(shape[0], 1)) * (SIZES - SIZES.mean())


NOISES = (normal, fanned, skewed, fanned_and_skewed, on_a_logarithmic_scale, slopes_of_seeds)


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
    return tests.paired(tests.slopes(SIZES, y))


def percent(found: Iterable[bool]) -> str:
    """Return the share of what is true."""
    return f"{100 * np.mean(list(found)):.1f}"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    heads = list(heads)
    return "\n".join(
        [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    )


def false_rises(noise: Callable[..., Array], n: int) -> list[str]:
    """Return how often each test finds a rise that is not there, and how often both intervals hold 0."""
    every = list(studies(noise, n))
    change = [y[:, -1] - y[:, 0] for y in every]
    outcomes = (
        [tests.trend(SIZES, y) for y in every], [slope_test(y) for y in every], [tests.paired(of) for of in change]
    )  # fmt: skip
    return [
        *(percent(getattr(one, p) <= LEVEL for one in of) for of in outcomes for p in ("p_rises", "p_falls")),
        percent(covers(tests.interval(of), 0.0) for of in change),
        percent(covers(tests.interval(tests.slopes(SIZES, y)), 0.0) for y in every),
    ]


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

    The first three numbers are at `LEVEL`, the last two, of Page's test and of the slopes, at `FIRST`.
    """
    steps = (SIZES - SIZES[0]) / (SIZES[-1] - SIZES[0])
    every = [y + rise * steps for y in studies(normal, n)]
    page, slope = ([test(y).p_rises for y in every] for test in (partial(tests.trend, SIZES), slope_test))
    ends = [tests.paired(y[:, -1] - y[:, 0]).p_rises for y in every]
    return [
        *(percent(p <= LEVEL for p in of) for of in (page, slope, ends)),
        *(percent(p <= FIRST for p in of) for of in (page, slope)),
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


def print_single_tests() -> None:
    """Print the sections on stated values, order of layers, U shape and spread."""
    print("\n## A stated exponent, at six steps\n")
    print(
        "The margin is 0.05, and a seed's exponents have a standard deviation of 0.02. Where the truth is the margin,"
    )
    print("at one step or at all, at most 2 is right.\n")
    truths = (np.zeros(6), np.eye(6)[0] * EXPONENT, np.full(6, EXPONENT), np.eye(6)[0] * 2 * EXPONENT)
    rows = []
    for n in SEEDS:
        exact, edge, edges, beyond = (exponents(n, truth) for truth in truths)
        rows.append([f"{n}", exact[0], edge[0], exact[1], edge[1], edges[1], beyond[1]])
    heads = ["seeds", "within: exact", "within: one at the margin", "outside: exact", "outside: one at the margin"]
    print(table([*heads, "outside: all at the margin", "outside: one at twice the margin"], rows))
    print(f"\n## Order of ten layers, against a rank correlation of {BOUND}\n")
    print("Correlations are tested as Fisher's z. Where the true mean is the bound, at most 2 is right.\n")
    heads, noises = ["seeds"], {truth: noise_of_orders(truth) for truth in (BOUND, 0.95, 0.5)}
    heads += [f"{truth:g}: {side}" for truth in noises for side in ("above", "below")]
    print(table(heads, [[f"{n}", *(part for of in noises.values() for part in ordered(n, of))] for n in SEEDS]))
    print("\n## U shape, six batch sizes\n")
    print("Effects in standard deviations of a run. Without a U at most 2 is right, and with one no contradiction.\n")
    cases = {
        "flat": ((0, 0), 0),
        "one end up": ((10, 0), 0),
        "ends up by 3": ((3, 3), 0),
        "ends up, a dip": ((3, 3), 2),
    }
    cases["last end down by 3"] = ((0, -3), 0)
    heads = ["seeds", *(f"{name}: {side}" for name in cases for side in ("U", "against"))]
    print(table(heads, [[f"{n}", *(part for of in cases.values() for part in u_shaped(n, *of))] for n in SEEDS]))
    print("\n## Spread over seeds, Brown-Forsythe\n")
    print("Shares of studies that are said to vary less. At equal spread at most 2 is right.\n")
    heads = ["seeds", "equal", "equal, runs of a seed correlated (0.8)", "equal, lognormal"]
    heads += [f"{ratio} times the spread" for ratio in (2, 3)]
    kinds = ((1, 0.0, False), (1, 0.8, False), (1, 0.0, True), (2, 0.0, False), (3, 0.0, False))
    print(table(heads, [[f"{n}", *(dispersed(n, *kind) for kind in kinds)] for n in (10, 20)]))


def main() -> None:
    """Print the page."""
    print("# How often the tests of claims err, and what they find\n")
    print(f"Made by `python benchmarks/verdicts.py`: {TRIALS:,} simulated studies for each number. Significance level:")
    print(f"{LEVEL:.0%}, not corrected. Numbers are in percent; the standard error of a share is at most 1.6 points.\n")
    print("## Where nothing happens\n")
    print("False rises and falls should be at most 2. The intervals should hold the true value in 95.\n")
    heads = ["noise", "seeds", "Page: rise", "fall", "t test of the slopes: rise", "fall"]
    heads += ["t test of the ends: rise", "fall"]
    heads += ["interval of the change holds 0", "interval of the slope holds 0"]
    rows = [[str(noise.__doc__).rstrip("."), f"{n}", *false_rises(noise, n)] for noise in NOISES for n in SEEDS]
    print(table(heads, rows))
    print("\n## Two quantities that rise with b and share no noise\n")
    print("Shares of studies in which they are said to correlate at the same batch size; at most 2 is right.\n")
    kinds = [("independent runs", 0.0, False), ("offsets of seeds", 3.0, False), ("slopes of seeds", 0.0, True)]
    rows = [[name, *(correlated(n, own, slopes) for n in SEEDS)] for name, own, slopes in kinds]
    print(table(["noise", *(f"{n} seeds" for n in SEEDS)], rows))
    print("\n## What is found: a rise between the ends, in standard deviations of a run\n")
    rows = [[f"{rise:g}", f"{n}", *found_rises(n, rise)] for rise in (1, 2, 3, 5) for n in SEEDS]
    heads = ["rise", "seeds", "Page's test", "t test of the slopes", "t test of the ends"]
    print(table([*heads, f"Page, level {FIRST:.1%}", f"slopes, level {FIRST:.1%}"], rows))
    print("\n## No effect\n")
    print("Margin and effect are in standard deviations of a run. In the last column at most 2 is right.\n")
    rows = [
        [f"{margin:g}", f"{n}", *(equivalent(n, margin, effect) for effect in (0.0, margin / 2, margin))]
        for margin in (2, 5, 10)
        for n in SEEDS
    ]
    print(table(["margin", "seeds", "no effect", "half the margin", "the margin"], rows))
    print_single_tests()


if __name__ == "__main__":
    main()
