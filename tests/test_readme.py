"""The README's commands, paths and figures exist, and its numbers are those of committed files."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import fill_tables
import pandas as pd
import pytest
import torch

from gapscope import cli
from gapscope.drawing import numbers
from gapscope.models import MODELS, ModelSpec, build
from gapscope.papers.oyedotun2022 import tables as paper
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


VERDICTS = fill_tables.VERDICTS
OPENING = " ".join(README.split("## Run it")[0].split())


def verdicts(study: str) -> "pd.Series[str]":
    return VERDICTS[VERDICTS["study"] == study].set_index("claim")["verdict"]


def runs(study: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / f"metrics/{study}/runs.csv")


def test_the_tables_of_gaps_and_verdicts_are_those_of_the_committed_claims() -> None:
    for page in fill_tables.PAGES:
        assert page.read_text() == fill_tables.filled(page.read_text())
    for made in fill_tables.MADE.values():
        assert made() in "".join(page.read_text() for page in fill_tables.PAGES)


def test_what_is_said_of_the_gap_and_of_the_train_loss_is_what_the_records_say() -> None:
    assert "**The gap** of Tables 5 and 6 is there, smaller than printed." in OPENING
    for study, printed in (("table05", 10.45 - 7.74), ("table06", 0.99 - 0.44)):
        gaps = pd.read_csv(ROOT / f"metrics/{study}/gap.csv").set_index("batch_size")
        assert verdicts(study)["test_error_rises"] == "supported"
        assert gaps.loc[8192, "gap_high"] < printed
    assert "is cross-entropy on Fashion-MNIST, where the penalty falls (Table 5); on MNIST the penalty rises" in OPENING
    said = "rises more (Table 6), but not for the network that is linear throughout, and with linear units (Table 10)"
    assert f"{said} this is undecided." in OPENING
    means = runs("table05").groupby("batch_size").mean(numeric_only=True)
    assert means.loc[8192, "penalty"] < means.loc[128, "penalty"]
    found = [verdicts(study)["penalty_rises_more"] for study in ("table05", "table06", "table10_linear", "table10")]
    assert found == ["contradicted", "supported", "contradicted", "undecided"]
    assert "Table 5's test loss falls, where the paper's rises." in OPENING
    assert means.loc[8192, "test_cross_entropy"] < means.loc[128, "test_cross_entropy"]
    assert verdicts("table05")["test_loss_rises"] == "contradicted"


def test_what_is_said_of_longer_training_is_what_was_found() -> None:
    trained = runs("table05_longer")
    assert set(trained["epochs"]) == {180}
    last = pd.read_csv(ROOT / "metrics/table05_longer/gap.csv").set_index("batch_size").loc[8192]
    said = f"{numbers.signed(last['gap'])} ({numbers.interval(last['gap_low'], last['gap_high'])})"
    assert f"at most {trained['train_error_pct'].max():.3f} %, and the gap is {said} points, supported." in OPENING
    claims = VERDICTS[VERDICTS["study"] == "table05_longer"].set_index("claim")
    names = ["gap", "best_epoch", "over_fitting"]
    found = claims.loc[[f"{name}_with_longer_training" for name in names]]
    assert found["verdict"].tolist() == ["supported", "supported", "undecided"]
    _, best, grows = found["effect"]
    assert f"the more so at large batches, it is {numbers.signed(best)}, supported." in OPENING
    said = f"for the other seeds to the last it changes by {numbers.signed(grows)}, undecided."
    assert said in OPENING
    histories = [
        pd.read_csv(ROOT / f"metrics/table05_longer/train/lenet5-fashion_mnist-b{run.batch_size}-s{run.seed}.csv")
        for run in trained.itertuples()
    ]
    own = trained["test_error_pct_running"] - [history["test_error_pct_running"].min() for history in histories]
    by_size = own.groupby(trained["batch_size"])
    assert by_size.get_group(8192).min() > by_size.get_group(128).max()  # "it would grow"


def test_the_printed_and_measured_losses_are_those_of_the_tables() -> None:
    found = []
    for number in (5, 6, 9, 10):
        table = pd.read_csv(ROOT / f"metrics/table{number:02d}/paper.csv").set_index(["batch_size", "measured_column"])
        found.append(table.loc[8192, "train_loss_keras"])
    printed, here = ([f"{row[name]:.3g}" for row in found] for name in ("printed", "mean"))
    said = "train loss is printed as {}, {}, {} and {}, and here {}, {}, {} and {} with Keras's penalty."
    assert said.format(*printed, *here) in OPENING
    table = pd.read_csv(ROOT / "metrics/table07/paper.csv").set_index(["measured_column", "batch_size"])
    near = table.loc["train_cross_entropy"].loc[[1024, 4096]]
    said = "at b = 1024 and 4096 of Table 7 {:g} and {:g} are printed, and here it is {:.3f} and {:.3f}."
    assert said.format(*near["printed"], *near["mean"]) in OPENING


def test_what_is_said_of_training_without_batch_norm_is_what_was_counted() -> None:
    both = pd.concat([runs("table07"), runs("table08")])
    stuck = both[both["status"] == "learned nothing"]
    assert f"{len(stuck)} of {len(both)} runs of Tables 7 and 8 learn nothing at all" in OPENING
    assert f"all of them at b ≥ {stuck['batch_size'].min()}." in OPENING
    levels = [VERDICTS[VERDICTS["study"] == study]["levels"].unique() for study in ("table07", "table08")]
    assert [list(of) for of in levels] == [["128, 1024"], ["128, 512"]]
    assert "Tables 7 and 8 are tested at b = 1024 and 512 against 128 alone, where all seeds learn" in OPENING


def test_what_is_said_of_the_smaller_threshold_is_what_was_found() -> None:
    assert (
        "At 1e-5 verdicts on counts are those at 1e-4, but for one: beyond the untrained model, the network" in OPENING
    )
    other = []
    for study in fill_tables.HEADS:
        found = verdicts(study)
        smaller = [name for name in found.index if name.endswith("_1e-5")]
        other += [(study, name, found[name]) for name in smaller if found[name] != found[name.removesuffix("_1e-5")]]
    assert other == [("table10_linear", "excess_over_untrained_rises_1e-5", "undecided")]


def test_what_is_said_of_near_rank_loss_is_what_was_counted() -> None:
    large = runs("table06").set_index("batch_size").loc[8192].mean(numeric_only=True)
    count = {
        name: f"{large[f'near_rank_{name}']:,.0f}"
        for name in ("run_0.0001_structural", "run_0.0001_full", "run_0.0001_excess", "untrained_0.0001_excess")
    }
    assert f"At b = 8192 {count['run_0.0001_structural']} of Table 6's {count['run_0.0001_full']} values" in OPENING
    assert f"of the {count['run_0.0001_excess']} others {count['untrained_0.0001_excess']} are there" in OPENING
    assert "That training adds more at large batches is shown in no study;" in OPENING
    linear = runs("table10_linear")
    added = (linear["near_rank_run_0.0001_excess"] - linear["near_rank_untrained_0.0001_excess"]).groupby(
        linear["batch_size"]
    )
    assert set(added.get_group(128)) == {15}
    assert f"it adds 15 values at b = 128 and at most {added.max().drop(128).max()} at every larger b." in OPENING
    assert "rises in every column above in which all runs learn, and most of it is shape" in OPENING
    assert "On a fixed probe Tables 5, 6, 9 and 10 have none." in OPENING
    for number in (5, 6, 9, 10):
        assert (runs(f"table{number:02d}")["near_rank_probe_0.0001_excess"] == 0).all(), number
    for study in fill_tables.HEADS:
        if study not in set(VERDICTS["study"]):
            continue
        found = verdicts(study)
        if (runs(study)["status"] == "ok").all():
            assert found["near_rank_rises"] == "supported", study
        for claim in ("probe_excess_rises", "excess_over_untrained_rises", "excess_over_reference_rises"):
            assert found[claim] != "supported", (study, claim)
    c1 = runs("keskar_table3_cifar10_n5000").groupby("batch_size")["near_rank_run_0.0001_full"].mean()
    assert f"(C1 on CIFAR-10: {c1[25]:.0f} at b = 25, {c1[500]:.0f} at 500)" in OPENING


def test_the_excess_of_linear_units_is_the_bound_that_is_said() -> None:
    nine = runs("table09").groupby("batch_size").mean(numeric_only=True).drop(128)["near_rank_run_0.0001_excess"]
    first, second = 28 * 28 + 1, 6 * 14 * 14 + 1
    for size, excess in nine.items():
        assert excess == pytest.approx(
            sum(max(min(size, u) - rank, 0) for u, rank in ((4704, first), (1600, second))), abs=3
        )
    assert f"rank {first} at most, the second layer's, of 6 x 14 x 14 values, {second:,}" in OPENING
    said = f"that leaves (4,704 - {first}) + (1,600 - {second:,}) = {nine.loc[8192]:,.0f} tiny values"
    assert f"{said}, whatever the weights." in OPENING
    added = {
        study: of[of["batch_size"] >= 512].eval("`near_rank_run_0.0001_excess` - `near_rank_untrained_0.0001_excess`")
        for study, of in ((study, runs(study)) for study in ("table09", "table10"))
    }
    assert (added["table09"] == 0).all()
    assert f"more: within {added['table10'].abs().max()} values as many as before training." in OPENING


def test_what_is_said_of_dead_units_without_batch_norm_is_what_was_counted() -> None:
    both = pd.concat([runs("table07"), runs("table08")])
    learned = both[both["status"] == "ok"]
    share = learned["near_rank_run_exact_zeros"] / learned["near_rank_run_0.0001_excess"]
    assert f"that learns {100 * share.min():.0f} to {100 * share.max():.0f} % are their zeros" in OPENING
    layers = pd.concat([pd.read_csv(ROOT / f"metrics/{study}/layers.csv") for study in ("table07", "table08")])
    layers = layers[layers["sample"] == "run"].merge(learned[["dataset", "batch_size", "seed"]])
    equal = layers[layers["duplicate_samples_count"] > 0]  # equal images take nothing: more others than columns remain
    assert (equal["samples"] - equal["duplicate_samples_count"] > 4704).all()
    without = runs("table07")
    whole = max(size for size, group in without.groupby("batch_size") if (group["status"] == "ok").all())
    names = ("run_exact_zeros", "run_0.0001_excess", "untrained_0.0001_excess", "reference_0.0001_excess")
    means = without[without["batch_size"] == whole][[f"near_rank_{name}" for name in names]].mean()
    dead, excess, untrained, reference = (f"{mean:.0f}" for mean in means)
    own = without[without["batch_size"] == 128]["near_rank_run_0.0001_excess"].mean()
    said = f"the model trained at b = 128 has {own:.0f} values on as many images, {reference} on these {whole:,}, and"
    assert said in OPENING
    eight = runs("table08").query("batch_size >= 2048 and status == 'ok'")
    times = eight["near_rank_run_0.0001_excess"] / eight["near_rank_reference_0.0001_excess"]
    assert f"from b = 2048 on, runs have {times.min():.2f} to {times.max():.2f} times its number" in OPENING
    said = f"at b = {whole}, the largest at which all seeds of Table 7 learn, {dead} of {excess} values."
    assert said in OPENING
    assert f"untrained networks have few ({untrained} values)." in OPENING
    for study in ("table07", "table08"):
        assert set(verdicts(study)) == {"undecided"}


def test_what_is_said_of_the_condition_number_is_what_was_found() -> None:
    assert "rises wherever all runs of a table learn, but in Tables 6, 9 and 10 so it does with no training" in OPENING
    names = ("condition_number_rises", "untrained_condition_number_rises", "condition_number_over_reference_rises")
    # of Tables 7 and 8 all are infinite, and those of the controls too
    found = {head: [verdicts(study).get(name) for name in names] for study, head in fill_tables.HEADS.items()}
    yes, no = "supported", "undecided"
    assert found.pop("F1") == ["contradicted", no, "contradicted"]
    assert found.pop("7") == found.pop("8") == [no, no, None]
    assert found.pop("5") == [yes, no, no]
    assert set(map(tuple, found.values())) == {(yes, yes, no)}
    claims = VERDICTS[VERDICTS["claim"] == names[2]].set_index("study")["effect_high"]
    assert (claims[["table09", "table10", "table10_linear"]] < 1).all()  # "it leans the other way"


def test_what_is_said_of_each_arm_is_what_was_found() -> None:
    switched, plain = (runs(study).groupby("batch_size")["updates"].max() for study in ("table11", "table05"))
    assert f"{switched.loc[8192]:,} at b = 8192 where Table 5 makes {plain.loc[8192]}." in OPENING
    gaps = pd.read_csv(ROOT / "metrics/table11/gap.csv")["gap"]
    printed = paper.printed(11).set_index("batch_size")["test_error_pct"]
    printed = (printed - printed[128]).drop(128)
    said = f"Gaps of {gaps.min():.2f} to {gaps.max():.2f} points are left, undecided, where the paper prints "
    assert f"{said}{printed.min():.2f} to {printed.max():.2f}." in OPENING
    assert verdicts("table11")["gap_with_switching"] == "undecided"
    rates = [
        json.loads(path.read_text())["lr_start"]
        for path in sorted((ROOT / "metrics/table05_tuned_rate/train").glob("*-b128-*.json"))
    ]
    assert "At b = 128 that took {:g}, {:g} and {:g}, with which".format(*rates) in OPENING
    tuned, shared = (
        runs(study).query("batch_size == 128")["test_error_pct"].mean() for study in ("table05_tuned_rate", "table05")
    )
    assert f"it is {tuned - shared:.2f} points worse than with the shared 0.1" in OPENING
    wide = runs("width").groupby(["batch_size", "model"])["test_error_pct"].mean()
    errors = [wide[8192, f"lenet5{width}"] for width in ("_w0.5", "", "_w2")]
    assert (
        "at b = 8192, {:.2f}, {:.2f} and {:.2f} % at half, whole and twice the widths, supported".format(*errors)
        in OPENING
    )
    assert verdicts("width")["width_lowers_error"] == "supported"
    assert wide[128, "lenet5_w0.5"] > wide[128, "lenet5"] > wide[128, "lenet5_w2"]  # "but at b = 128 as well"
    assert verdicts("width")["width_shrinks_gap"] == "undecided"
    warm = (
        pd.read_csv(ROOT / "metrics/keskar_warmstart_n5000/warmstart.csv")
        .groupby("start_epoch")
        .mean(numeric_only=True)
    )
    cold, *later = warm["large_test_error_pct"]
    said = "after 20, 40 and 60 epochs end at {:.2f}, {:.2f} and {:.2f} %, below the large batch alone with {:.2f} %"
    assert said.format(*later, cold) in OPENING
    assert warm.index.tolist() == [0, 20, 40, 60]
    assert f"the small batch alone ends at {warm.loc[60, 'small_test_error_pct']:.2f} %." in OPENING
    assert verdicts("keskar_warmstart_n5000")["warmstart_recovers"] == "undecided"


def test_what_is_said_of_sharpness_on_fashion_mnist_is_what_was_found() -> None:
    assert "in random manifolds to b = 4096, in full space to b = 2048, on MNIST in both to b = 1024." in OPENING
    rises = ("manifold_sharpness_rises", "sharpness_rises")
    assert [verdicts("table05")[claim] for claim in rises] == ["supported", "undecided"]
    assert "a rise is supported on Fashion-MNIST in manifolds, in the other three it is not." in OPENING
    means = runs("table05").groupby("batch_size").mean(numeric_only=True)
    assert means["sharpness_random100_0.001_pct"].idxmax() == 4096
    sharpness = means["sharpness_full_0.001_pct"]
    assert sharpness.loc[:2048].is_monotonic_increasing
    assert sharpness.loc[2048:].is_monotonic_decreasing


def test_what_is_said_of_the_sharpness_of_f1_is_what_was_found() -> None:
    assert "in all eight measures, five of them supported, while that its test error is higher is undecided" in OPENING
    claims = VERDICTS[VERDICTS["study"] == "keskar_table3"].set_index("claim")
    sharp = claims[claims.index.str.contains("sharpness")]
    assert len(sharp) == 8
    assert (sharp["verdict"] == "supported").sum() == 5
    assert f"by factors of {sharp['effect'].min():.0f} to {sharp['effect'].max():,.0f}, in all eight" in OPENING
    assert claims.loc["test_error_rises", "verdict"] == "undecided"


def test_what_is_said_of_sharpness_on_mnist_is_what_was_found() -> None:
    means = runs("table06").groupby("batch_size").mean(numeric_only=True)
    assert {means[f"sharpness_{space}_0.001_pct"].idxmax() for space in ("full", "random100")} == {1024}
    found = verdicts("table06")
    assert "supported" not in set(found[found.index.str.contains("sharpness")])
    said = (
        "a rise is supported in both for Table 9, in manifolds for Table 10, and in full space for the network that is"
    )
    assert said in OPENING
    rises = ("sharpness_rises", "manifold_sharpness_rises")
    found = {study: [verdicts(study)[claim] for claim in rises] for study in ("table09", "table10", "table10_linear")}
    yes, no = "supported", "undecided"
    assert found == {"table09": [yes, yes], "table10": [no, yes], "table10_linear": [yes, no]}


def test_what_is_said_of_linear_units_is_what_was_found() -> None:
    ends = runs("table09").groupby("batch_size")["train_error_pct"].mean()
    printed = paper.printed(9).set_index("batch_size")["train_error_pct"]
    linear = runs("table10_linear").groupby("batch_size")["test_error_pct"].mean()
    off = {round(error) for error in linear - paper.printed(10).set_index("batch_size")["test_error_pct"]}
    assert off == {6}
    assert "linear throughout, with average pooling, is off by 6 points." in OPENING
    assert (runs("table10").groupby("batch_size")["test_error_pct"].mean() < 1.5).all()
    said = "Table 9's train error is then {:.2f} % at b = 128 and {:.2f} % at 8192, where {:g} and {:g} % are printed."
    assert said.format(ends[128], ends[8192], printed[128], printed[8192]) in OPENING


def test_the_arms_of_table_5_and_itself_were_trained_where_it_is_said() -> None:
    assert "The arms of Table 5 were trained on a GPU (but for b = 128 of `table05_longer`), Table 5 itself" in OPENING
    longer = runs("table05_longer").set_index("batch_size")["device"].str.startswith("cuda")
    assert longer.loc[[2048, 8192]].all()
    assert not longer.loc[128].any()
    for arm in (*fill_tables.ARMS[:1], *fill_tables.ARMS[2:5]):
        assert runs(arm)["device"].str.startswith("cuda").all(), arm
    assert runs("table05")["device"].str.startswith("cpu").all()
    here, there = (
        of[of["batch_size"] == 128].set_index("seed")["test_error_pct"] for of in map(runs, ("table11", "table05"))
    )
    assert f"moves the test error by up to {(here - there).abs().max():.2f} points" in OPENING


def test_how_often_data_are_gone_through_at_equal_updates_is_what_was_run() -> None:
    epochs = runs("table05_equal_updates").groupby("batch_size")["epochs"].max()
    assert f"{epochs.loc[2048]} epochs at b = 2048, and {epochs.loc[128]}, the last cut short, at 128." in OPENING
    assert 6 * 469 < runs("table05_equal_updates")["updates"].max() < 7 * 469


def test_the_seeds_of_each_study_are_those_that_were_run() -> None:
    sentence = README.split("Of these are run and committed, with so many seeds:")[1].split(".\n")[0]
    tables = {path.parent.name: pd.read_csv(path) for path in (ROOT / "metrics").glob("*/runs.csv")}
    said = {name: int(seeds) for name, seeds in re.findall(r"`(\w+)` (\d+)", sentence)}
    assert said == {name: table["seed"].nunique() for name, table in tables.items()}


def test_the_worked_examples_answer_and_verdicts_are_the_committed_ones() -> None:
    (sentence,) = gap.answer(pd.read_csv(ROOT / "metrics/example/gap.csv"))
    guide = " ".join((ROOT / "docs/own_model.md").read_text().split())
    assert f"over three seeds: *{sentence.partition(': ')[2].removesuffix('.')}*." in guide
    counts = pd.read_csv(ROOT / "metrics/claims/example.csv")["verdict"].value_counts()
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("supported", "contradicted", "undecided"))
    assert f"shows verdicts: {said}." in README
    ends = pd.read_csv(ROOT / "metrics/example/gap.csv").set_index("batch_size").loc[4096]
    few = f"This gap is one of few updates, {ends['updates']:.0f} at b = 4096 against {ends['smallest_updates']:,.0f}:"
    equal = pd.read_csv(ROOT / "metrics/example_equal_updates/gap.csv").set_index("batch_size").loc[4096]
    left = f"{numbers.fixed(equal['gap'], 2)} ({numbers.interval(equal['gap_low'], equal['gap_high'])})"
    assert f"{few} with {equal['updates']:,.0f} at every batch size it is {left} points there" in OPENING
    small = [
        runs(study).query("batch_size == 16")["test_error_pct"].mean() for study in ("example_equal_updates", "example")
    ]
    said = f"shrink it is supported; b = 16 is under-trained there, {small[0] - small[1]:.2f} points worse."
    assert said in OPENING
    assert verdicts("example_equal_updates")["equal_updates_shrinks_gap"] == "supported"


def test_the_page_of_all_studies_is_made_of_what_is_committed() -> None:
    made = overview.page(ROOT / "metrics", ROOT / "plots").replace(f"../{ROOT.as_posix()}/", "../")
    assert (ROOT / "reports/README.md").read_text() == made


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
    assert "That the gap falls with width, from half to twice, is supported; that switching shrinks it" in said
    switching = VERDICTS[VERDICTS["study"] == "example_switched"].set_index("claim").loc["switching_shrinks_gap"]
    p = f"{switching['p_corrected']:.3f}"
    assert f"four larger batch sizes, is just undecided (p = {p}), and of scaling it is undecided." in said
    verdicts = [
        pd.read_csv(ROOT / f"metrics/claims/{study}.csv").set_index("claim")["verdict"][claim]
        for study, claim in zip(
            (*studies[1:], "example_wide"),
            ("switching_shrinks_gap", "scaled_rate_shrinks_gap", "width_shrinks_gap"),
            strict=True,
        )
    ]
    assert verdicts == ["undecided", "undecided", "supported"]


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
