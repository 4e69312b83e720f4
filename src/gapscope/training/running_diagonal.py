"""The Hessian's diagonal at the weights of each update, over a few training images: the optimiser cblr asks for it."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from gapscope import seeds
from gapscope.data.images import Images
from gapscope.numerics.loss_surface.hessian_diagonal import sampled_columns, softmax_columns
from gapscope.numerics.loss_surface.squared_jacobian import SquaredJacobian
from gapscope.training.hessian_diagonal import FEW


class RunningDiagonal:
    """The diagonal of the Gauss-Newton matrix of the mean cross-entropy; where it is the Hessian's, see `numerics`.

    It is taken with batch norm by running statistics and without dropout, over images that are not augmented. Images
    and labels come from a stream of each update, so a run that goes on has the same bits, and so have all ranks.

    Args:
        model: the network in training.
        count: images per update, drawn with replacement.
        method: "sampled", a label per image drawn from the softmax; "exact", over all classes.
        names: of the parameters to return, in order.
        images: of the training set.
        seed: of the run.
    """

    def __init__(
        self, model: nn.Module, count: int, method: str, *, names: Sequence[str], images: Images, seed: int
    ) -> None:
        self._model, self._names, self._images, self._seed = model, names, images, seed
        self._count, self._method = count, method
        training = model.training
        self._squares = SquaredJacobian(model.eval(), images.inputs(slice(0, FEW)))
        model.train(training)

    def __call__(self, update: int) -> list[Tensor]:
        """Return the diagonal at the model's present weights, a tensor for each parameter."""
        draws = seeds.generator(self._seed, "diagonal", update)
        chosen = torch.randint(len(self._images), (self._count,), generator=draws).to(self._images.labels.device)
        columns = partial(sampled_columns, draws=1, generator=draws) if self._method == "sampled" else softmax_columns
        self._squares.model.load_state_dict(self._model.state_dict())
        sums = self._squares(self._images.inputs(chosen), columns)
        return [sums[name].detach() / self._count for name in self._names]
