"""Stage curvature: Hessian and Gauss-Newton spectra, trace and the rise within a ball, at a run's weights."""

from pathlib import Path

from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(__doc__, "weights", "data", out=(Path, "path without suffix: .csv and .json"))

    from gapscope.measures import curvature
    from gapscope.measures.networks import measure_network

    measure_network("curvature", curvature.CurvatureSettings, curvature.of_network, **vars(args))


if __name__ == "__main__":
    run_stage(main)
