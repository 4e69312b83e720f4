"""One thread, properties that repeat, and the longest files first, since two processes share them."""

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("repeatable")

LONGEST = (  # first those that run the pipeline; the rest takes less than 10 s a file
    "test_pipeline.py", "test_half_hour.py", "test_extend.py", "test_noops.py", "test_example.py",
    "test_toy_measure.py", "test_null_rates.py", "test_proof.py", "test_new.py", "test_site_browser.py",
    "test_migration.py", "test_bad_inputs.py", "test_svg.py", "test_page.py", "test_params.py", "test_train_stage.py",
    "test_resumable.py", "test_runner.py", "test_warm_start.py", "test_networks.py", "test_models.py", "test_resume.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
