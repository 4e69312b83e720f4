"""How often the tests of claims err, how often their intervals cover, and what they can find: simulated runs.

    python benchmarks/verdicts.py > benchmarks/verdicts.md

Runs have six batch sizes, 128 to 8192, and an offset for each seed. Noise is of several kinds, some of which break what
a test assumes. All numbers are shares of `TRIALS` simulated studies; their standard error is at most 1.6 points.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from gapscope.claims import hypothesis_tests as tests

Array = NDArray[np.float64]
SIZES = np.log2([128, 512, 1024, 2048, 4096, 8192])
SEEDS = (3, 5, 8, 10)
TRIALS, LEVEL = 1000, 0.02
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
    outcomes = [tests.trend(SIZES, y) for y in every], [tests.paired(of) for of in change]
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
    """Return how often a rise between the ends, in standard deviations of a run, is found by either test."""
    steps = (SIZES - SIZES[0]) / (SIZES[-1] - SIZES[0])
    every = [y + rise * steps for y in studies(normal, n)]
    return [
        percent(tests.trend(SIZES, y).p_rises <= LEVEL for y in every),
        percent(tests.paired(y[:, -1] - y[:, 0]).p_rises <= LEVEL for y in every),
    ]


def equivalent(n: int, margin: float, effect: float) -> str:
    """Return how often "no effect" is found; margin and the effect at the largest batch size in standard deviations."""
    shift = np.zeros(len(SIZES))
    shift[-1] = effect
    changes = [(y + shift)[:, 1:] - y[:, :1] for y in studies(normal, n)]
    return percent(tests.equivalence(of, margin) <= LEVEL for of in changes)


def main() -> None:
    """Print the page."""
    print("# How often the tests of claims err, and what they find\n")
    print(f"Made by `python benchmarks/verdicts.py`: {TRIALS:,} simulated studies for each number. Significance level:")
    print(f"{LEVEL:.0%}, not corrected. Numbers are in percent; the standard error of a share is at most 1.6 points.\n")
    print("## Where nothing happens\n")
    print("False rises and falls should be at most 2. The intervals should hold the true value in 95.\n")
    heads = ["noise", "seeds", "Page: rise", "fall", "t test of the ends: rise", "fall"]
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
    print(table(["rise", "seeds", "Page's test", "t test of the ends"], rows))
    print("\n## No effect\n")
    print("Margin and effect are in standard deviations of a run. In the last column at most 2 is right.\n")
    rows = [
        [f"{margin:g}", f"{n}", *(equivalent(n, margin, effect) for effect in (0.0, margin / 2, margin))]
        for margin in (2, 5, 10)
        for n in SEEDS
    ]
    print(table(["margin", "seeds", "no effect", "half the margin", "the margin"], rows))


if __name__ == "__main__":
    main()
