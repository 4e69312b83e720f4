"""Numbers and small tables that the pages quote, each read from committed records.

`TABLES` and `facts()` are what `fill_tables.py` fills in. Prose stays in the pages, except for the five findings of
README.md.
"""

from collections.abc import Callable

from . import deep_networks, front_page, keskar, layers, oyedotun, regression, remedies, runs

TABLES: dict[str, Callable[[], str]] = {
    "findings": front_page.findings,
    "committed": runs.committed,
    "speed": runs.speed,
    "linear_train_errors": oyedotun.linear_train_errors,
    "train_losses": oyedotun.train_losses,
    "losses_without_batch_norm": oyedotun.losses_without_batch_norm,
    "sharpness": oyedotun.sharpness,
    "example_gaps": remedies.example_gaps,
    "vgg_full": deep_networks.vgg_full,
    "vgg_small": deep_networks.vgg_small,
    "resnet": deep_networks.resnet,
    "keskar_ends": keskar.keskar_ends,
    "figure4": keskar.figure4,
    "c1": keskar.c1,
    "noise_scale_known": regression.noise_scale_known,
}
GROUPS = (
    keskar.sharpness_of_f1, oyedotun.gap_facts, oyedotun.near_rank_facts, oyedotun.dead_units, remedies.in_words,
    remedies.remedies, remedies.worked_example, deep_networks.deep_networks, oyedotun.table_5, keskar.keskar,
    layers.layers, regression.beyond_images, oyedotun.matrices,
)  # fmt: skip


def facts() -> dict[str, str]:
    """Return all numbers that stand within sentences, by name."""
    return {name: value for group in GROUPS for name, value in group().items()}
