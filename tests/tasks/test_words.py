"""The words in which pages and claims speak of a study: those of its task, told from what it has measured."""

import pytest

from gapscope.tasks.words import CLASSIFICATION, WORDS, words_of


@pytest.mark.parametrize("task", WORDS)
def test_a_built_in_task_has_its_own_words(task: str) -> None:
    words = WORDS[task]
    assert words_of({words.loss, words.error, "weight_norm"}) == words_of({words.loss}) == words


def test_a_loss_of_one_s_own_for_classes_is_not_taken_for_the_regression_of_the_same_loss() -> None:
    assert words_of({"squared_error", "error_pct"}) is CLASSIFICATION
    assert words_of({"squared_error", "rmse_pct"}) is WORDS["regression"]
