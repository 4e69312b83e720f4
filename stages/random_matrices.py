"""Stage random_matrices: extreme singular values of matrices of one law, and histograms of whole spectra."""

from pathlib import Path

from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(
        __doc__,
        law=(str, "gaussian, uniform or lognormal"),
        log=(Path, "file that keeps the finished repetitions; removed at the end"),
        out=(Path, "path without suffix: .csv and .json"),
    )

    from gapscope.measures.random_matrices import measure_law

    measure_law(**vars(args))


if __name__ == "__main__":
    run_stage(main)
