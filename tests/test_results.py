"""The numbers of docs/results.md are those of committed files."""

import json
import math
import re
from pathlib import Path

import pandas as pd

from gapscope.papers.oyedotun2022 import tables as paper

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/results.md").read_text()
SAID = " ".join(PAGE.split())


def test_every_link_and_picture_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_the_near_rank_counts_of_table05_are_the_committed_ones() -> None:
    runs = pd.read_csv(ROOT / "metrics/table05/runs.csv").set_index(["batch_size", "seed"]).sort_index()
    counts = {
        sample: runs[f"near_rank_{sample}_0.0001_excess"] for sample in ("run", "reference", "untrained", "probe")
    }
    three = {name: "{:.0f}, {:.0f} and {:.0f}".format(*column.loc[8192]) for name, column in counts.items()}
    assert f"at b = 8192 the three seeds have {three['run']}, and one value in all below" in SAID
    assert f"models trained at b = 128 have {three['reference']}, and those never trained {three['untrained']}" in SAID
    assert counts["run"].drop(8192).sum() == 1
    assert not counts["probe"].any()
    remains = counts["run"] - counts["reference"]
    assert remains[remains > 0].to_dict() == {(2048, 2): 1}


def test_what_is_said_of_the_two_runs_of_table_1_is_what_they_recorded() -> None:
    found = [
        json.loads((ROOT / f"docs/records/table01/vgg16-cifar10-b{size}-s0.json").read_text()) for size in (128, 2048)
    ]
    assert {(run["epochs_run"], run["provenance"]["device"], run["provenance"]["commit"]) for run in found} == {
        (200, "cuda (NVIDIA H200)", "ca0b10b")
    }
    printed = paper.printed(1).set_index("batch_size").loc[[128, 2048]]
    of = {name: [run[name] for run in found] for name in found[0] if name.startswith(("train_", "test_"))}
    small, large = of["test_error_pct_running"]
    assert f"test errors are {small} % at b = 128 and {large} % at b = 2048, where" in SAID
    assert "{:g} and {:g} % are printed".format(*printed["test_error_pct"]) in SAID
    assert f"the gap is +{large - small:.2f} points, printed +{printed['test_error_pct'].diff()[2048]:.2f}." in SAID
    assert "Train errors are {:g} and {:g} %".format(*of["train_error_pct_running"]) in SAID
    losses = [f"{loss:.3f}" for split in ("train", "test") for loss in of[f"{split}_loss_running"]]
    losses += [f"{loss:.3f}" for split in ("train", "test") for loss in printed[f"{split}_loss"]]
    said = "losses with the penalty are {} and {} (train), {} and {} (test), printed {} and {}, {} and {}."
    assert said.format(*losses) in SAID
    assert "with these the test errors are {:.2f} and {:.2f} %".format(*of["test_error_pct"]) in SAID


def test_what_is_said_of_vgg_on_a_part_is_what_was_found() -> None:
    vgg = pd.read_csv(ROOT / "metrics/table01_n5000/runs.csv").set_index("batch_size")
    errors = "{:.1f}, {:.1f} and {:.1f} %".format(*vgg["test_error_pct"])
    assert f"Its test errors are {errors}, after {'{:,}, {} and {}'.format(*vgg['updates'])} updates." in SAID
    names = [f"near_rank_{sample}_0.0001_excess" for sample in ("run", "reference", "untrained")]
    run, reference, untrained = (f"{count:,}" for count in vgg.loc[2048, names])
    assert f"{run}, and {reference} in the network trained at b = 64 on the same images, {untrained} in the" in SAID
    probe = vgg["near_rank_probe_0.0001_excess"]
    assert f"there are {probe[64]} at b = 64 and {probe[2048]} at 2048, all in the dense layer of 512 units" in SAID
    counts = pd.read_csv(ROOT / "metrics/table01_n5000/near_rank.csv").query("sample == 'probe' and threshold == 1e-4")
    assert set(counts[counts["economy"] > 0]["layer"]) == {"fc1"}
    assert set(counts[counts["layer"] == "fc1"]["values"]) == {512}


def test_what_is_said_of_resnet_after_few_epochs_is_what_was_found() -> None:
    runs = pd.read_csv(ROOT / "metrics/table03_epochs16/runs.csv").set_index("batch_size")
    assert runs.index.tolist() == [128, 2048]
    assert set(runs["epochs"]) == {16}
    small, large = runs.loc[128], runs.loc[2048]
    printed = paper.printed(3).set_index("batch_size")["test_error_pct"]
    errors = f"{small['test_error_pct']} and {large['test_error_pct']} %, printed {printed[128]} and {printed[2048]};"
    assert f"Test errors are {errors} with {large['updates']} updates against {small['updates']:,} and a" in SAID
    assert f"a train error of {large['train_error_pct']:.2f} % this gap is under-training" in SAID
    excess = [f"near_rank_{sample}_0.0001_excess" for sample in ("run", "probe")]
    assert set(small[excess]) == {2} == {small["near_rank_run_exact_zeros"]}
    assert set(large[excess]) == {0}
    names = [f"condition_number_{sample}" for sample in ("run", "reference", "untrained")]
    run, reference, untrained = (f"{number:,.0f}" for number in large[names])
    said = (
        f"{run}, and on the same images {reference} in the network trained at b = 128 and {untrained} in the untrained"
    )
    assert said in SAID


def test_the_sharpness_of_figure_4_is_the_committed_one() -> None:
    runs = pd.read_csv(ROOT / "metrics/keskar_figure4/runs.csv").set_index("batch_size")
    small, large, best = runs.loc[256], runs.loc[6000], runs["test_error_pct"].idxmin()
    full, test = "sharpness_full_0.001_pct", "sharpness_test_full_0.001_pct"
    assert f"from {small[full]:.2f} to {large[full]:,.0f} %, of the training loss" in SAID
    assert f"from {small[test]:.2f} to {large[test]:,.0f} %, of the test loss" in SAID
    assert f"accuracy is {100 - small['test_error_pct']:.2f} and {100 - large['test_error_pct']:.2f} %" in SAID
    assert f"at b = {best}, with {100 - runs['test_error_pct'].min():.2f} %" in SAID
    assert 3 <= math.log10(runs.loc[best, full] / small[full]) < 4  # three orders of magnitude
    assert f"Updates fall from {small['updates']:,} to {large['updates']:,}." in SAID


def test_what_is_said_of_the_runs_of_keskar_table3_is_what_they_recorded() -> None:
    runs = pd.read_csv(ROOT / "metrics/keskar_table3/runs.csv").set_index(["batch_size", "seed"]).sort_index()
    small, large = runs.loc[256], runs.loc[6000]
    updates = "{:,}, {:,} and {:,}".format(*small["updates"])
    assert f"({updates} updates at b = 256, {large['updates'].max():,} at b = 6000" in SAID
    manifold = {epsilon: runs.loc[6000, f"sharpness_random100_{epsilon}_pct"].mean() for epsilon in ("0.001", "0.0005")}
    printed = {"0.001": 9.22, "0.0005": 9.17}  # Table 4, which paper.md repeats
    assert f"{manifold['0.001'] / printed['0.001']:.1f} times larger (ε = 0.001)" in SAID
    assert f"{printed['0.0005'] / manifold['0.0005']:.1f} times smaller (0.0005)" in SAID
    found = pd.read_csv(ROOT / "metrics/claims/keskar_table3.csv").set_index("claim")["verdict"]
    sharp = found[found.index.str.contains("sharpness")]
    assert "supported in five of eight measures; for three it is undecided" in SAID
    assert sharp.value_counts().to_dict() == {"supported": 5, "undecided": 3}
    undecided = {"sharpness_rises", "manifold_sharpness_rises_5e-4", "test_manifold_sharpness_rises_5e-4"}
    assert set(sharp[sharp == "undecided"].index) == undecided
    norms = ["{:.0f}, {:.0f} and {:.0f}".format(*end["weight_norm"]) for end in (small, large)]
    assert f"weights of norm {norms[0]} against {norms[1]} here" in SAID


def test_what_is_said_of_c1_is_what_its_runs_recorded() -> None:
    table = pd.read_csv(ROOT / "metrics/keskar_table3_cifar10_n5000/runs.csv")
    assert sorted(table["batch_size"]) == [25, 25, 500, 500]
    assert set(table["sharpness_images"]) == {1000}
    small, large = (table[table["batch_size"] == size].mean(numeric_only=True) for size in (25, 500))
    full, manifold = (
        [end[f"sharpness_{space}_0.001_pct"] for end in (small, large)] for space in ("full", "random100")
    )
    assert (
        "from {:.0f} to {:,.0f} % in full space and from {:.1f} to {:.0f} % in random".format(*full, *manifold) in SAID
    )
    assert "test accuracy, {:.1f} and {:.1f} %".format(*(100 - end["test_error_pct"] for end in (small, large))) in SAID
    assert "Norms of the weights: {:.0f} and {:.0f}".format(*(end["weight_norm"] for end in (small, large))) in SAID
    assert "updates: {:,.0f} and {:,.0f}.".format(*(end["updates"] for end in (small, large))) in SAID


def test_what_is_said_of_curvature_is_what_every_seed_shows() -> None:
    runs = pd.read_csv(ROOT / "metrics/keskar_table3/curvature.csv").set_index(["batch_size", "seed"])
    small, large = runs.loc[256], runs.loc[6000]
    for smaller, larger, column in (
        (large, small, "hessian_largest"),
        (small, large, "hessian_trace"),
        (small, large, "ball_plain_rise"),
        (large, small, "ball_adaptive_rise"),
    ):
        assert smaller[column].max() < larger[column].min(), column
    ends = pd.read_csv(ROOT / "metrics/keskar_table3/landscape.csv")
    corner = ends[ends["end"] == "large"]
    quadratic = corner["radius"] ** 2 * corner["largest_eigenvalue"] / 2  # the most that it can be
    assert (corner["eigenvector_rise_mean"] > 10 * quadratic).all()


def test_what_is_said_of_equation_5_is_what_was_counted() -> None:
    found = json.loads((ROOT / "metrics/random_matrices/summary.json").read_text())
    above, below = found["eq5_b_at_least_h"], found["eq5_b_below_h"]
    assert f"holds in all of {above['of']} problems with b ≥ h" in SAID
    assert f"the least-squares estimate breaks it in all of {below['of']}, even" in SAID
    assert "the smallest change that fits breaks it in none" in SAID
    assert (above["violated"], below["violated"], below["violated_smallest"]) == (0, below["of"], 0)


def test_what_is_said_of_random_matrices_is_what_was_found() -> None:
    found = json.loads((ROOT / "metrics/random_matrices/summary.json").read_text())["printed_cells"]
    assert f"{found['agrees']} of {sum(found.values())} printed cells agree" in SAID
    assert f"within four standard errors, {found['off']} do not." in SAID
    table = (ROOT / "metrics/random_matrices/paper.md").read_text()
    assert table.count("**off**: fits") == found["off"] - 1 == 6
    ((printed, mean, error),) = re.findall(
        r"\| gaussian \| 1000 x 10 \| (\S+) \| (\S+) ± (\S+) \| \S+ \| \*\*off\*\* \|", table
    )
    assert f"Gaussian 1000 x 10 is printed {printed} and measured {float(mean):.3f} ± {float(error):.3f}." in SAID
