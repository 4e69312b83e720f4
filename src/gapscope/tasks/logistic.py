"""Logistic losses: one logit for two classes, and one logit for each of several labels of an example.

The loss of a logit z is its binary cross-entropy: -log sigmoid(z) where the label is 1, -log sigmoid(-z) where it is 0.
With one logit for two classes it is the softmax cross-entropy of the logits (0, z), so both forms compare.

A run that ends no better than the share of each label in the training set, which looks at no input, has learned
nothing.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from gapscope.data.images import Augmentation, Images
from gapscope.errors import InputError
from gapscope.tasks import words
from gapscope.tasks.classification import CLASSIFICATION, Classification
from gapscope.tasks.task import Batch, Task


class BinaryClassification(Classification):
    """Two classes, 0 and 1. Outputs are the logits of class 1, (b,) or (b, 1); targets are labels (b,)."""

    def network_outputs(self, classes: int) -> int:
        """Return 1.

        Raises:
            InputError: the data have other than two classes.
        """
        if classes != 2:
            raise InputError(
                f"train.task=binary_classification takes two classes, and the data have {classes}: set "
                "train.task=classification"
            )
        return 1

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return each example's cross-entropy in nats."""
        return _losses(outputs, batch)

    def errors(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return which examples are classified wrongly; class 1 is predicted where the logit is above 0."""
        return _wrong(outputs, batch)

    def guessing_loss(self, examples: Images) -> float:
        """Return the loss of the shares of both classes in the training set: their entropy."""
        return _guessing(examples.labels)

    def hessian_product(self, outputs: Tensor, batch: Batch, vector: Tensor) -> Tensor:
        """Return p (1 - p) v for each example, with p the predicted probability of class 1."""
        return _curvature(outputs) * vector


class MultilabelClassification(Task):
    """Several labels for each example, each 0 or 1. Outputs are logits (b, labels); so are targets.

    Loss and error of an example are means over its labels: chance costs log 2 nats, however many labels there are, as
    with PyTorch's `BCEWithLogitsLoss`. The error is the Hamming loss. Beside it stands the exact match: the share of
    examples with no wrong label.
    """

    unit = "example"
    targets = "label sets"
    loss_name = words.MULTILABEL.loss
    error_name = words.MULTILABEL.error
    beside_error = ("exact_match_pct",)

    def batch(
        self,
        examples: Images,
        index: Tensor | slice,
        *,
        dtype: torch.dtype = torch.float32,
        augmentation: Augmentation | None = None,
        channels_last: bool = False,
    ) -> Batch:
        """Return inputs as in classification, images or features, and label sets (b, labels)."""
        return CLASSIFICATION.batch(
            examples, index, dtype=dtype, augmentation=augmentation, channels_last=channels_last
        )

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return each example's cross-entropy in nats, a mean over its labels."""
        return _losses(outputs, batch).mean(1)

    def errors(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the share of each example's labels that are wrong; a label is predicted where its logit is above 0."""
        return _wrong(outputs, batch).double().mean(1)

    def error(self, total: float, weight: float) -> float:
        """Return the percentage of wrong labels."""
        return 100 * total / weight

    def further_sums(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return which examples have no wrong label, in per cent."""
        return {"exact_match_pct": 100 * (~_wrong(outputs, batch).any(1)).double()}

    def guessing_loss(self, examples: Images) -> float:
        """Return the loss of the share of each label in the training set: a mean of entropies."""
        return _guessing(examples.labels)

    def hessian_product(self, outputs: Tensor, batch: Batch, vector: Tensor) -> Tensor:
        """Return p (1 - p) v / labels for each label, with p its predicted probability."""
        labels: int = batch.targets.shape[1]
        return _curvature(outputs) * vector / labels


def _logits(outputs: Tensor, batch: Batch) -> Tensor:
    """Return the outputs in the shape of the labels."""
    labels = batch.targets
    if len(outputs) != len(labels) or outputs.numel() != labels.numel():  # (b,) and (b, 1) would broadcast to (b, b)
        raise InputError(
            f"the network gives outputs of shape {tuple(outputs.shape)} for labels of shape {tuple(labels.shape)}; its "
            "argument classes= is the number of outputs: one for two classes, or one per label"
        )
    return outputs.reshape(labels.shape)


def _losses(outputs: Tensor, batch: Batch) -> Tensor:
    logits = _logits(outputs, batch)
    return binary_cross_entropy_with_logits(logits, batch.targets.to(logits.dtype), reduction="none")


def _wrong(outputs: Tensor, batch: Batch) -> Tensor:
    logits = _logits(outputs, batch)
    wrong: Tensor = ((logits > 0) != (batch.targets == 1)) | logits.isnan()  # NaN predicts nothing
    return wrong


def _curvature(logits: Tensor) -> Tensor:
    """Return p (1 - p), which 1 - p would round to 0 for large logits."""
    chance = logits.detach()
    return chance.sigmoid() * (-chance).sigmoid()


def _guessing(labels: Tensor) -> float:
    """Return the mean over labels of the entropy of their shares of 1, for (n,) or (n, labels)."""
    share = labels.double().mean(0)
    return float((torch.special.entr(share) + torch.special.entr(1 - share)).mean())
