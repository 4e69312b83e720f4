"""The state of a training run: all that changes from update to update, how to save it, and how to continue from it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gapscope.errors import reading
from gapscope.optim.optimizer import Optimizer
from gapscope.records.checkpoints import Checkpoint
from gapscope.records.tensors import copy_tensors
from gapscope.training.distributed import Ranks
from gapscope.training.observers import Observer, Row


@dataclass
class TrainingState:
    """A run between two updates.

    Attributes:
        model, optimizer, observers: of the run; they hold tensors.
        checkpoint: where the state is saved; None: nowhere.
        ranks: this process among those that train together; rank 0 saves.
        step: number of updates done.
        history: one row for each evaluation.
        observed: the observers' rows.
        seconds_before: of training before the latest stop.
        start: clock at the start of this process's part.
    """

    model: nn.Module
    optimizer: Optimizer
    observers: list[Observer]
    checkpoint: Checkpoint | None
    ranks: Ranks
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    observed: list[Row] = field(default_factory=list)
    seconds_before: float = 0.0
    start: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        """Return the seconds of training, including those before a stop."""
        return self.seconds_before + time.perf_counter() - self.start

    def save(self) -> None:
        """Write the checkpoint, if there is one and this rank writes."""
        if self.checkpoint and self.ranks.writes:
            optimizer = {f"optimizer.{name}": tensor for name, tensor in self.optimizer.state().items()}
            progress = {"step": self.step, "history": self.history, "seconds": self.seconds()}
            progress |= {"observed": self.observed, "optimizer": self.optimizer.numbers()}
            self.checkpoint.save(self.tensors() | optimizer, progress)

    def load(self, updates: int) -> None:
        """Take over the state of the checkpoint, if it is there and of this run.

        Args:
            updates: of the whole run.

        Raises:
            InputError: the state does not fit the run, though its identity does.
        """
        saved_state = self.checkpoint.load() if self.checkpoint else None
        if saved_state is None:
            return
        saved, progress = saved_state
        path = self.checkpoint.path  # type: ignore[union-attr]
        optimizer = _within("optimizer.", saved)
        others = {name: tensor for name, tensor in saved.items() if not name.startswith("optimizer.")}
        with reading(path, "a state of this run", "remove it, and the run starts afresh"), torch.no_grad():
            if not 0 <= progress["step"] <= updates:
                raise ValueError(f"update {progress['step']} of a run of {updates}")
            copy_tensors(others, self.tensors())
            self.optimizer.restore(optimizer, progress["optimizer"])
        self.step, self.history, self.seconds_before = progress["step"], progress["history"], progress["seconds"]
        self.observed = progress["observed"]
        print(f"going on from update {self.step}, saved in {path}", flush=True)

    def where_saved(self) -> str:
        """Return in words where the state is."""
        return f"{self.checkpoint.path} has the state" if self.checkpoint else "nothing was saved"

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the model and the observers, by name."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for observer in self.observers:
            tensors |= {f"observer.{observer.name}.{name}": tensor for name, tensor in observer.state().items()}
        return tensors


def _within(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
