"""Language modelling: the next token of every token of a sequence.

A batch size counts sequences: they are what training draws, and what the noise scale assumes to be independent. Loss
and error are means over tokens: every token that counts weighs the same, whatever its sequence. A target of `IGNORED`
counts in no loss, in no error and in no weight.

A run that ends no better than the shares of the tokens in the training set, which look at no input, has learned
nothing. Beside each run stands the cross-entropy of a bigram model on the test set (`gapscope.data.text`): a network
that is not below it makes no use of its context.
"""

import math

import numpy as np
import torch
from torch import Tensor

from gapscope.data.images import Augmentation
from gapscope.data.text import IGNORED, bigram_baseline
from gapscope.data.tokens import Tokens
from gapscope.errors import InputError
from gapscope.numerics.token_cross_entropy import softmax_hessian_product, token_cross_entropy
from gapscope.tasks import words
from gapscope.tasks.task import Batch, Task


class LanguageModel(Task):
    """Outputs are logits (b, L, vocabulary); targets are the tokens that follow (b, L)."""

    unit = "sequence"
    targets = "tokens"
    loss_name = words.LANGUAGE_MODEL.loss
    error_name = words.LANGUAGE_MODEL.error
    beside_error = ("perplexity",)

    def batch(
        self,
        examples: Tokens,
        index: Tensor | slice,
        *,
        dtype: torch.dtype = torch.float32,
        augmentation: Augmentation | None = None,
        channels_last: bool = False,  # of images
    ) -> Batch:
        """Return tokens (b, L) and the tokens that follow (b, L)."""
        return Batch(examples.inputs(index, dtype, augmentation), examples.targets(index))

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return each sequence's cross-entropy in nats, a mean over its tokens that count; 0 if none counts."""
        means: Tensor = self._of_tokens(outputs, batch).sum(1) / self.weights(batch).clamp(min=1)
        return means

    def weights(self, batch: Batch) -> Tensor:
        """Return the number of tokens of each sequence that count."""
        counted: Tensor = (batch.targets != IGNORED).sum(1)
        return counted

    def total_weight(self, examples: Tokens, index: Tensor | None = None) -> float:
        """Return the number of tokens that count in the sequences at `index`; None: in all."""
        return examples.counted(index)

    def sum_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the sum of cross-entropies over the tokens that count."""
        return self._of_tokens(outputs, batch).sum()

    def errors(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the number of tokens of each sequence that are predicted wrongly; NaN logits count as wrong."""
        best = outputs.max(2)  # NaN where a logit is
        wrong = (best.indices != batch.targets) | best.values.isnan()
        counted: Tensor = (wrong & (batch.targets != IGNORED)).sum(1)
        return counted

    def error(self, total: float, weight: float) -> float:
        """Return the percentage of tokens predicted wrongly."""
        return 100 * total / weight

    def further(self, error: float, loss: float, examples: Tokens) -> dict[str, float]:
        """Return the perplexity: exp of the mean cross-entropy of a token."""
        return {"perplexity": math.exp(loss) if loss < math.log(np.finfo(float).max) else math.inf}

    def guessing_loss(self, examples: Tokens) -> float:
        """Return the loss of the shares of the tokens among the training targets: their entropy."""
        targets = examples.labels.cpu().numpy()
        counts = np.bincount(targets[targets != IGNORED])
        shares = counts[counts > 0] / counts.sum()
        return float(-(shares * np.log(shares)).sum())

    def baselines(self, training: Tokens, test: Tokens) -> dict[str, float]:
        """Return the test loss of a bigram model of the training set."""
        own, other = ((split.images.cpu().numpy(), split.labels.cpu().numpy()) for split in (training, test))
        return {"bigram": bigram_baseline(own, other)}

    def hessian_product(self, outputs: Tensor, batch: Batch, vector: Tensor) -> Tensor:
        """Return (diag(p) - p p^T) v of each token that counts, with p its softmax, and 0 of the others."""
        return softmax_hessian_product(outputs, batch.targets != IGNORED, vector)

    def _of_tokens(self, outputs: Tensor, batch: Batch) -> Tensor:
        if outputs.ndim != 3 or outputs.shape[:2] != batch.targets.shape:
            raise InputError(
                f"the network gives outputs of shape {tuple(outputs.shape)} for sequences of shape "
                f"{tuple(batch.targets.shape)}; a language model gives logits (sequences, tokens, vocabulary)"
            )
        return token_cross_entropy(outputs, batch.targets, IGNORED)
