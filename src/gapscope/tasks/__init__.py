"""Tasks by name: what a batch is, which loss is trained, what counts as an error, and what a batch size counts.

A task is imported when it is asked for: `gapscope compose` checks its name without torch.
"""

import re
from typing import TYPE_CHECKING

from gapscope.errors import InputError, did_you_mean
from gapscope.import_paths import imported

if TYPE_CHECKING:
    from gapscope.tasks.task import Task

TASKS = {  # name -> import path; `words` says how each one's numbers are called
    "classification": "gapscope.tasks.classification:Classification",
    "binary_classification": "gapscope.tasks.logistic:BinaryClassification",
    "multilabel_classification": "gapscope.tasks.logistic:MultilabelClassification",
    "regression": "gapscope.tasks.regression:Regression",
    "huber_regression": "gapscope.tasks.regression:HuberRegression",
    "language_model": "gapscope.tasks.language_model:LanguageModel",
}
IMPORT_PATH = re.compile(r"\w+(\.\w+)*:\w+")


def check_task(name: str) -> None:
    """Raise InputError if a name is neither that of a built-in task nor an import path; nothing is imported."""
    if name not in TASKS and not IMPORT_PATH.fullmatch(name):
        raise InputError(
            f"train.task: unknown task {name!r}; {did_you_mean(name, TASKS)} (or an import path, package.module:Class)"
        )


def make_task(name: str) -> "Task":
    """Return a task, built-in or given by an import path.

    Args:
        name: the param `train.task`.

    Raises:
        InputError: an unknown name, an import path that leads nowhere, or something that is no task.
    """
    from gapscope.tasks.task import Task

    check_task(name)
    cls = imported(TASKS.get(name, name), "train.task")
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        raise InputError(f"train.task: {name} is not a subclass of gapscope.tasks.task.Task")
    try:
        task: Task = cls()
    except TypeError as error:  # an abstract method, or an argument that is needed
        raise InputError(f"train.task: {name} cannot be made without arguments: {error}") from error
    return task
