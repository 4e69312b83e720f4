"""One thread, properties that repeat, and the longest files first, since two processes share them."""

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("repeatable")

LONGEST = (  # the rest takes less than 10 s a file
    "test_pipeline.py", "test_claims.py", "test_svg.py", "test_page.py", "test_train_stage.py", "test_resumable.py",
    "test_runner.py", "test_warm_start.py", "test_networks.py", "test_models.py", "test_resume.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
