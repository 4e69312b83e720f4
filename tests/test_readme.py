"""The README's commands, paths and figures exist, and its numbers are those of committed files."""

import json
import math
import re
import shlex
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import torch

from gapscope import cli
from gapscope.models import MODELS, ModelSpec, build
from gapscope.report import gap, overview

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
]


def test_the_readme_has_commands() -> None:
    for command in ("uv run dvc repro", "uv run pytest", "dvc exp run -S batch_size=2048", "dvc plots diff main other"):
        assert any(command in found for found in COMMANDS), command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_path_in_a_command_exists(command: str) -> None:
    for word in shlex.split(command):
        if re.fullmatch(r"(stages|conf|src|tests|docs|benchmarks)/\S+", word):
            assert (ROOT / word).exists(), word


def test_every_gapscope_command_is_one_that_it_takes() -> None:
    commands = [shlex.split(command)[1:] for command in COMMANDS if command.startswith("gapscope ")]
    assert {command[0] for command in commands} == {module.__name__.split(".")[-1] for module in cli.COMMANDS}
    for command in commands:
        cli.parser().parse_args(command)


def test_every_link_and_picture_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_every_study_named_exists_and_every_study_is_named() -> None:
    studies = {path.stem for path in (ROOT / "conf/study").glob("*.yaml")}
    assert set(re.findall(r"study=(\w+)", README)) <= studies
    assert {name for name in studies if f"`{name}`" in README} == studies


SHOWN = [
    "train_cross_entropy_rises", "penalty_rises_more", "test_cross_entropy_rises", "train_error_rises",
    "test_error_rises", "best_epoch_rises", "over_fitting_rises", "distance_falls", "condition_number_rises",
    "near_rank_rises", "excess_rises", "probe_excess_rises", "untrained_excess_rises", "excess_over_untrained_rises",
    "excess_over_reference_rises", "near_rank_with_train_cross_entropy", "sharpness_rises", "manifold_sharpness_rises",
    "test_sharpness_rises", "hessian_rises",
]  # fmt: skip
HEADS = {
    "table05": "5", "table06": "6", "table07": "7", "table08": "8", "table10_linear": "10 *", "keskar_table3": "F1",
}  # fmt: skip
ARMS = ["table05_equal_updates", "table05_tuned_rate", "table11", "width", "keskar_warmstart_n5000"]
VERDICTS = overview.read_verdicts(ROOT / "metrics/claims")
OPENING = " ".join(README.split("## Run it")[0].split())


def verdicts(study: str) -> "pd.Series[str]":
    return VERDICTS[VERDICTS["study"] == study].set_index("claim")["verdict"]


def runs(study: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / f"metrics/{study}/runs.csv")


def test_the_tables_of_gaps_and_verdicts_are_those_of_the_committed_claims() -> None:
    assert overview.gap_table(ROOT / "metrics") in README
    shown = VERDICTS[VERDICTS["study"].isin(HEADS) & VERDICTS["claim"].isin(SHOWN)]
    assert overview.sign_table(shown, HEADS) in README
    assert overview.arm_table(pd.concat([VERDICTS[VERDICTS["study"] == arm] for arm in ARMS])) in README


def test_what_is_said_of_the_gap_and_of_the_train_loss_is_what_the_records_say() -> None:
    assert "is there with batch norm, smaller than printed" in OPENING
    for study, printed in (("table05", 10.45 - 7.74), ("table06", 0.99 - 0.44)):
        gaps = pd.read_csv(ROOT / f"metrics/{study}/gap.csv").set_index("batch_size")
        assert verdicts(study)["test_error_rises"] == "supported"
        assert gaps.loc[8192, "gap_high"] < printed
    assert "is cross-entropy on Fashion-MNIST, where the penalty falls; on MNIST the penalty rises more" in OPENING
    penalty = runs("table05").groupby("batch_size")["penalty"].mean()
    assert penalty.loc[8192] < penalty.loc[128]
    found = [verdicts(study)["penalty_rises_more"] for study in ("table05", "table06")]
    assert found == ["contradicted", "supported"]


def test_what_is_said_of_training_without_batch_norm_is_what_was_counted() -> None:
    both = pd.concat([runs("table07"), runs("table08")])
    stuck = both[both["status"] == "learned nothing"]
    assert f"{len(stuck)} of {len(both)} runs of Tables 7 and 8 learn nothing at all" in OPENING
    assert f"all of them at b ≥ {stuck['batch_size'].min()}." in OPENING


def test_what_is_said_of_near_rank_loss_is_what_was_counted() -> None:
    large = runs("table06").set_index("batch_size").loc[8192].mean(numeric_only=True)
    count = {
        name: f"{large[f'near_rank_{name}']:,.0f}"
        for name in ("run_0.0001_structural", "run_0.0001_full", "run_0.0001_excess", "untrained_0.0001_excess")
    }
    assert f"at b = 8192 {count['run_0.0001_structural']} of Table 6's {count['run_0.0001_full']} values" in OPENING
    assert f"of the {count['run_0.0001_excess']} others {count['untrained_0.0001_excess']} are there" in OPENING
    without = runs("table07")
    whole = max(size for size, group in without.groupby("batch_size") if (group["status"] == "ok").all())
    samples = without[without["batch_size"] == whole]
    excess = [
        f"{samples[f'near_rank_{sample}_0.0001_excess'].mean():,.0f}" for sample in ("run", "reference", "untrained")
    ]
    said = (
        "at b = {}, the largest at which all seeds of Table 7 learn, runs have {} such values, networks trained at b = "
    )
    assert (said + "128 {}, untrained ones {}; this is undecided.").format(whole, *excess) in OPENING
    assert "is shown in no study, and contradicted for the linear network." in OPENING
    assert verdicts("table10_linear")["excess_over_untrained_rises"] == "contradicted"
    for study in HEADS:
        found = verdicts(study)
        if (runs(study)["status"] == "ok").all():
            assert found["near_rank_rises"] == "supported", study
        for claim in ("probe_excess_rises", "excess_over_untrained_rises", "excess_over_reference_rises"):
            assert found[claim] != "supported", (study, claim)


def test_what_is_said_of_sharpness_on_mnist_is_what_was_found() -> None:
    assert "on MNIST in both to b = 1024, so that over all sizes no rise is shown there." in OPENING
    means = runs("table06").groupby("batch_size").mean(numeric_only=True)
    assert {means[f"sharpness_{space}_0.001_pct"].idxmax() for space in ("full", "random100")} == {1024}
    found = verdicts("table06")
    assert "supported" not in set(found[found.index.str.contains("sharpness")])
    assert "For the linear network it rises throughout in full space." in OPENING
    linear = verdicts("table10_linear")
    assert linear["sharpness_rises"] == "supported"
    means = runs("table10_linear").groupby("batch_size").mean(numeric_only=True)
    assert means["sharpness_full_0.001_pct"].is_monotonic_increasing


def test_the_arms_of_table_5_and_itself_were_trained_where_it_is_said() -> None:
    assert "The arms of Table 5 were trained on a GPU, Table 5 itself on a CPU" in OPENING
    for arm in ARMS[:4]:
        assert runs(arm)["device"].str.startswith("cuda").all(), arm
    assert runs("table05")["device"].str.startswith("cpu").all()


def test_how_often_data_are_gone_through_at_equal_updates_is_what_was_run() -> None:
    epochs = runs("table05_equal_updates").groupby("batch_size")["epochs"].max()
    assert f"{epochs.loc[2048]} times at b = 2048 and {epochs.loc[128]} at 128." in OPENING


def test_the_seeds_of_each_study_are_those_that_were_run() -> None:
    sentence = README.split("Of these are run and committed, with so many seeds:")[1].split(".\n")[0]
    tables = {path.parent.name: pd.read_csv(path) for path in (ROOT / "metrics").glob("*/runs.csv")}
    said = {name: int(seeds) for name, seeds in re.findall(r"`(\w+)` (\d+)", sentence)}
    assert said == {name: table["seed"].nunique() for name, table in tables.items()}


def test_the_near_rank_counts_of_table05_are_the_committed_ones() -> None:
    runs = pd.read_csv(ROOT / "metrics/table05/runs.csv").set_index(["batch_size", "seed"]).sort_index()
    said = " ".join(README.split("## Run it")[0].split())
    counts = {
        sample: runs[f"near_rank_{sample}_0.0001_excess"] for sample in ("run", "reference", "untrained", "probe")
    }
    three = {name: "{:.0f}, {:.0f} and {:.0f}".format(*column.loc[8192]) for name, column in counts.items()}
    assert f"at b = 8192 the three seeds have {three['run']}, and one value in all below" in said
    assert f"models trained at b = 128 have {three['reference']}, and those never trained {three['untrained']}" in said
    assert counts["run"].drop(8192).sum() == 1
    assert not counts["probe"].any()
    remains = counts["run"] - counts["reference"]
    assert remains[remains > 0].to_dict() == {(2048, 2): 1}
    assert runs["sharpness_random100_0.001_pct"].groupby("batch_size").mean().idxmax() == 4096
    sharpness = runs["sharpness_full_0.001_pct"].groupby("batch_size").mean()
    assert sharpness.idxmax() == 2048
    assert sharpness.loc[128] < sharpness.loc[512] < sharpness.loc[1024] < sharpness.loc[2048]
    assert sharpness.loc[2048] > sharpness.loc[4096] > sharpness.loc[8192]


def test_the_sharpness_of_figure_4_is_the_committed_one() -> None:
    runs = pd.read_csv(ROOT / "metrics/keskar_figure4/runs.csv").set_index("batch_size")
    small, large, best = runs.loc[256], runs.loc[6000], runs["test_error_pct"].idxmin()
    full, test = "sharpness_full_0.001_pct", "sharpness_test_full_0.001_pct"
    text = " ".join(README.split())
    assert f"from {small[full]:.2f} to {large[full]:,.0f} %, of the training loss" in text
    assert f"from {small[test]:.2f} to {large[test]:,.0f} %, of the test loss" in text
    assert f"accuracy is {100 - small['test_error_pct']:.2f} and {100 - large['test_error_pct']:.2f} %" in text
    assert f"at b = {best}, with {100 - runs['test_error_pct'].min():.2f} %" in text
    assert 3 <= math.log10(runs.loc[best, full] / small[full]) < 4  # three orders of magnitude
    assert f"Updates fall from {small['updates']:,} to {large['updates']:,}." in text


def test_the_worked_examples_answer_and_verdicts_are_the_committed_ones() -> None:
    (sentence,) = gap.answer(pd.read_csv(ROOT / "metrics/example/gap.csv"))
    guide = " ".join((ROOT / "docs/own_model.md").read_text().split())
    assert f"over three seeds: *{sentence.partition(': ')[2].removesuffix('.')}*." in guide
    counts = pd.read_csv(ROOT / "metrics/claims/example.csv")["verdict"].value_counts()
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("supported", "contradicted", "undecided"))
    assert f"shows verdicts: {said}." in README
    ends = pd.read_csv(ROOT / "metrics/example/gap.csv").set_index("batch_size").loc[4096]
    assert f"{ends['updates']:.0f} updates at b = 4096 against {ends['smallest_updates']:,.0f}" in OPENING
    assert f"a train error of {ends['train_error_pct']:.1f} %" in OPENING


def test_the_page_of_all_studies_is_made_of_what_is_committed() -> None:
    made = overview.page(ROOT / "metrics", ROOT / "plots").replace(f"../{ROOT.as_posix()}/", "../")
    assert (ROOT / "reports/README.md").read_text() == made


@pytest.mark.parametrize("study", ["table05", "keskar_table3"])
def test_the_table_of_paper_against_measured_is_the_committed_one(study: str) -> None:
    assert (ROOT / f"metrics/{study}/paper.md").read_text().strip() in README


def test_what_is_said_of_the_runs_of_keskar_table3_is_what_they_recorded() -> None:
    runs = pd.read_csv(ROOT / "metrics/keskar_table3/runs.csv").set_index(["batch_size", "seed"]).sort_index()
    said = README.split("## Run it")[0].replace("\n", " ")
    small, large = runs.loc[256], runs.loc[6000]
    updates = "{:,}, {:,} and {:,}".format(*small["updates"])
    assert f"({updates} updates at b = 256, {large['updates'].max():,} at b = 6000" in said
    manifold = {epsilon: runs.loc[6000, f"sharpness_random100_{epsilon}_pct"].mean() for epsilon in ("0.001", "0.0005")}
    printed = {"0.001": 9.22, "0.0005": 9.17}  # Table 4, which paper.md repeats
    assert f"{manifold['0.001'] / printed['0.001']:.1f} times larger (ε = 0.001)" in said
    assert f"{printed['0.0005'] / manifold['0.0005']:.1f} times smaller (0.0005)" in said
    found = pd.read_csv(ROOT / "metrics/claims/keskar_table3.csv").set_index("claim")["verdict"]
    sharp = found[found.index.str.contains("sharpness")]
    assert "in all eight measures, five of them supported" in OPENING
    assert (sharp == "supported").sum() == 5
    assert len(sharp) == 8
    undecided = {"sharpness_rises", "manifold_sharpness_rises_5e-4", "test_manifold_sharpness_rises_5e-4"}
    assert set(sharp[sharp == "undecided"].index) == undecided
    factors = pd.read_csv(ROOT / "metrics/claims/keskar_table3.csv").set_index("claim")["effect"][sharp.index]
    assert f"by factors of {factors.min():.0f} to {factors.max():,.0f}, in all eight" in OPENING
    assert found["test_error_rises"] == "undecided"
    norms = ["{:.0f}, {:.0f} and {:.0f}".format(*end["weight_norm"]) for end in (small, large)]
    assert f"weights of norm {norms[0]} against {norms[1]} here" in said


def test_what_is_said_of_c1_is_what_its_runs_recorded() -> None:
    table = pd.read_csv(ROOT / "metrics/keskar_table3_cifar10_n5000/runs.csv")
    assert sorted(table["batch_size"]) == [25, 25, 500, 500]
    assert set(table["sharpness_images"]) == {1000}
    small, large = (table[table["batch_size"] == size].mean(numeric_only=True) for size in (25, 500))
    said = README.split("## Run it")[0].replace("\n", " ")
    full, manifold = (
        [end[f"sharpness_{space}_0.001_pct"] for end in (small, large)] for space in ("full", "random100")
    )
    assert (
        "from {:.0f} to {:,.0f} % in full space and from {:.1f} to {:.0f} % in random".format(*full, *manifold) in said
    )
    assert "test accuracy, {:.1f} and {:.1f} %".format(*(100 - end["test_error_pct"] for end in (small, large))) in said
    assert "Norms of the weights: {:.0f} and {:.0f}".format(*(end["weight_norm"] for end in (small, large))) in said
    assert "updates: {:,.0f} and {:,.0f}.".format(*(end["updates"] for end in (small, large))) in said


def test_what_is_said_of_the_examples_remedies_is_what_their_tables_say() -> None:
    studies = ("example", "example_switched", "example_scaled")
    gaps = [pd.read_csv(ROOT / f"metrics/{study}/gap.csv").set_index("batch_size")["gap"][4096] for study in studies]
    said = README.split("## Run it")[0].replace("\n", " ")
    assert f"At b = 4096 its test error is {gaps[0]:.2f} points above that at b = 16" in said
    assert f"second half of training, {gaps[1]:.2f}; " in said
    assert f"root of the batch size, {gaps[2]:.2f}; with layers" in said
    wide = pd.read_csv(ROOT / "metrics/example_wide/gap.csv").set_index(["model", "batch_size"])["gap"]
    twice, half = (wide[f"examples.nets:Net_w{width}", 4096] for width in (2, 0.5))
    assert f"twice the width, {twice:.2f}, and of half, {half:.2f}." in said
    assert "over all four larger batch sizes, is supported, and so is width; of scaling it is undecided" in said
    verdicts = [
        pd.read_csv(ROOT / f"metrics/claims/{study}.csv").set_index("claim")["verdict"][claim]
        for study, claim in zip(
            (*studies[1:], "example_wide"),
            ("switching_shrinks_gap", "scaled_rate_shrinks_gap", "width_shrinks_gap"),
            strict=True,
        )
    ]
    assert verdicts == ["supported", "undecided", "supported"]


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
    said = " ".join(README.split("## Run it")[0].split())
    assert f"holds in all of {above['of']} problems with b ≥ h" in said
    assert f"the least-squares estimate breaks it in all of {below['of']}, even" in said
    assert "the smallest change that fits breaks it in none" in said
    assert (above["violated"], below["violated"], below["violated_smallest"]) == (0, below["of"], 0)


def test_the_speeds_are_those_of_the_benchmark() -> None:
    table = (ROOT / "benchmarks/training.md").read_text().splitlines()
    rows = [row.strip("| ").split(" | ") for row in table if "gapscope |" in row or "128 |" in row]
    ratios = {row[0]: float(row[-2].split()[0]) for row in rows}
    text = README.replace("\n", " ")
    usual = "LeNet-5, batch {}: usual / gapscope"
    faster = [f"{ratios[usual.format(size)]:.1f}" for size in (128, 4096)]
    assert "LeNet-5: {} times as fast at b = 128, {} at b = 4096".format(*faster) in text
    peak = [ratios[f"{name}, channels_last: peak / gapscope"] for name in ("ResNet-56", "VGG-16")]
    assert "ResNet-56 reaches {} of it, VGG-16 {}, with".format(*peak) in text
    table = (ROOT / "benchmarks/graphs.md").read_text()
    ((graph, plain),) = re.findall(r"\| lenet5 \| 128 \| (\S+) \| (\S+) \|", table)
    assert f"at b = 128 takes {graph} ms as a CUDA graph and {plain} ms without" in text


def test_the_table_of_networks_is_that_of_the_code() -> None:
    section = README.split("## Networks")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\| `.*", section, re.MULTILINE)
    ]
    listed = {name: row for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert set(listed) == set(MODELS)
    for name, row in listed.items():
        shape = tuple(int(side) for side in row[2].split(" x "))
        counts = []
        for batch_norm in (True, False):
            with torch.device("meta"):
                model = build(ModelSpec(name, shape, 1973 if name == "f2" else 10, batch_norm, linear=False))
            counts.append(f"{sum(p.numel() for p in model.parameters()):,}")
        assert row[3] == " / ".join(counts), name


def test_the_licence_and_citation_agree_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {project['version']}\n" in citation
    assert f"license: {project['license']}\n" in citation
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
