"""Stage curvature_radius: curvature radii of each parameter tensor, at a run's weights and at its initial ones."""

from pathlib import Path

from gapscope.runtime import arguments, run_stage


def main() -> None:
    """Run the stage."""
    args = arguments(__doc__, "weights", "data", out=(Path, "path without suffix: .csv and .json"))

    from gapscope.measures import curvature_radius
    from gapscope.measures.networks import measure_network

    settings = curvature_radius.CurvatureRadiusSettings
    measure_network("curvature_radius", settings, curvature_radius.of_network, **vars(args))


if __name__ == "__main__":
    run_stage(main)
