"""How a task's numbers are called: in records, tables, figures and claims. Tables and pages import this without torch.

Claims, figures and pages are written in the words of classification of images. In a study of another task, its error
stands for the classification error and its loss for the cross-entropy, and `Words.said` puts a text into its words.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Words:
    """The names of a task's error and loss.

    Attributes:
        error: quantity of the error. It is a percentage in every built-in task, so that points mean something in all.
        loss: quantity of the loss.
        loss_unit: unit of the loss.
        instead: a word of classification -> this task's.
    """

    error: str
    loss: str
    loss_unit: str
    instead: dict[str, str]

    @property
    def best_epoch_error(self) -> str:
        """Quantity of the error at a run's best epoch."""
        return f"best_epoch_{self.error}"

    def in_place(self, quantity: str) -> str:
        """Return this task's quantity in the place of one of classification; any other quantity is the same in all."""
        own = {CLASSIFICATION.error: self.error, CLASSIFICATION.loss: self.loss}
        return {**own, CLASSIFICATION.best_epoch_error: self.best_epoch_error}.get(quantity, quantity)

    def of_rows(self) -> "Words":
        """Return the words where the examples are rows of a table, not images."""
        return replace(self, instead={"image": "example", "images": "examples", **self.instead})

    def said(self, text: str) -> str:
        """Return a text that is written in the words of classification in those of this task.

        Example:
            >>> REGRESSION.said("Train cross-entropy (nats), test error (%) over b images, standard error")
            'Train squared error (variances), test RMSE (% of SD) over b examples, standard error'
        """
        return WRITTEN.sub(self._said, text) if self.instead else text

    def _said(self, found: re.Match[str]) -> str:
        word = found[0]
        new = self.instead.get(word.lower(), word)
        return new[0].upper() + new[1:] if word[0].isupper() else new


def _regression(loss: str, called: str) -> Words:
    instead = {
        "cross-entropy": called, "nats": "variances", "image": "example", "images": "examples",
        "error": "RMSE", "errors": "RMSE", "error (%)": "RMSE (% of SD)", "lose accuracy": "predict worse",
    }  # fmt: skip
    return Words("rmse_pct", loss, "variances", instead)


def _cross_entropy_per(part: str, unit: str) -> Words:
    """Return the words of a cross-entropy that is a mean over parts of each unit, as over the tokens of a sequence."""
    instead = {
        "cross-entropy": f"cross-entropy per {part}", "nats": f"nats per {part}", "image": unit, "images": f"{unit}s",
        "error": f"{part} error", "errors": f"{part} errors", "error (%)": f"{part} error (%)",
    }  # fmt: skip
    return Words(f"{part}_error_pct", f"{part}_cross_entropy", f"nats per {part}", instead)


# first what holds a word that is to be replaced, and stays
WRITTEN = re.compile(
    r"(standard|rounding|root mean square|squared) errors?|error bounds?|"
    r"error \(%\)|lose accuracy|\b(errors?|cross-entropy|nats|images?)\b",
    re.IGNORECASE,
)
CLASSIFICATION = Words("error_pct", "cross_entropy", "nats", {})
LANGUAGE_MODEL = _cross_entropy_per("token", "sequence")
MULTILABEL = _cross_entropy_per("label", "example")
REGRESSION = _regression("squared_error", "squared error")
HUBER = _regression("huber_loss", "Huber loss")
WORDS = {  # by train.task
    "classification": CLASSIFICATION,
    "binary_classification": CLASSIFICATION,
    "multilabel_classification": MULTILABEL,
    "regression": REGRESSION,
    "huber_regression": HUBER,
    "language_model": LANGUAGE_MODEL,
}


def words_of(quantities: Collection[str]) -> Words:
    """Return the words of the task whose loss is among the quantities of a table, and whose error if there is one.

    A task of one's own has those of classification, and what is not measured stays empty.
    """
    errors = {words.error for words in WORDS.values()} & set(quantities)
    of_loss = [words for words in WORDS.values() if words.loss in quantities]
    return next((words for words in of_loss if words.error in errors or not errors), CLASSIFICATION)
