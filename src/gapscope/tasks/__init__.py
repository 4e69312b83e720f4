"""Tasks by name: what a batch is, which loss is trained, what counts as an error, and what a batch size counts."""

from gapscope.tasks.classification import Classification
from gapscope.tasks.task import Batch as Batch
from gapscope.tasks.task import Task as Task

CLASSIFICATION = Classification()
TASKS: dict[str, Task] = {"classification": CLASSIFICATION}
