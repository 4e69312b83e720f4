"""Classification of images: softmax cross-entropy, and the share of images with a wrong label."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gapscope.data.images import Augmentation, Images
from gapscope.numerics.loss_surface.hessian_diagonal import label_columns, sampled_columns, softmax_columns
from gapscope.tasks.task import Batch, Task


class Classification(Task):
    """One label for each image. Outputs are logits (b, classes); targets are labels (b,)."""

    unit = "image"
    loss_name = "cross_entropy"
    error_name = "error_pct"

    def batch(
        self,
        examples: Images,
        index: Tensor | slice,
        *,
        dtype: torch.dtype = torch.float32,
        augmentation: Augmentation | None = None,
        channels_last: bool = False,
    ) -> Batch:
        """Return normalised images (b, c, h, w) and their labels."""
        inputs = examples.inputs(index, dtype, augmentation)
        if channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return Batch(inputs, examples.labels[index])

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return each image's cross-entropy in nats."""
        return cross_entropy(outputs, batch.targets, reduction="none")

    # The two fused forms have bits of their own: sums of `losses` would differ in the last digit.

    def sum_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the sum of cross-entropies."""
        return cross_entropy(outputs, batch.targets, reduction="sum")

    def mean_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy."""
        return cross_entropy(outputs, batch.targets)

    def errors(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return which images are classified wrongly."""
        # NaN logits have no meaningful argmax: the image counts as wrong
        wrong: Tensor = ~(outputs.argmax(1) == batch.targets) | outputs.isnan().any(1)
        return wrong

    def error(self, total: float, weight: float) -> float:
        """Return the percentage of images classified wrongly."""
        return 100 * total / weight

    def hessian_product(self, outputs: Tensor, batch: Batch, vector: Tensor) -> Tensor:
        """Return (diag(p) - p p^T) v for each image, with p its softmax probabilities (Schraudolph 2002)."""
        probabilities = outputs.detach().softmax(dim=1)
        weighted = probabilities * vector
        return weighted - probabilities * weighted.sum(dim=1, keepdim=True)

    def loss_gradients(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return p - e_y for each image, with p its softmax probabilities and y its label."""
        return label_columns(outputs, batch.targets)[:, 0]

    def hessian_columns(
        self, outputs: Tensor, batch: Batch, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the columns of the Cholesky factor of diag(p) - p p^T, all with the sign 1.

        With a generator it is p - e_y, of a label y drawn from p.
        """
        vectors = softmax_columns(outputs) if generator is None else sampled_columns(outputs, 1, generator)
        return vectors, vectors.new_ones(vectors.shape[:2])


CLASSIFICATION = Classification()
