"""Claims of classification, asked of another task: about its own error, and its loss in place of the cross-entropy.

The margins hold as they are, because the error is a percentage in every task: half a point of the classification error,
or half a per cent of the training targets' standard deviation. A loss has the margin of its own unit.
"""

from collections.abc import Sequence
from dataclasses import replace

from gapscope.claims.claim import Claim, Measured
from gapscope.tasks.words import CLASSIFICATION, Words


def in_task(claims: Sequence[Claim], words: Words) -> list[Claim]:
    """Return claims that are about a task's own error and loss; those of classification stay the same objects.

    Args:
        claims: as their papers state them, for classification.
        words: of the study's task.
    """
    return [_claim_in_task(claim, words) for claim in claims] if words.instead else list(claims)


def _claim_in_task(claim: Claim, words: Words) -> Claim:
    def named(measured: Measured) -> Measured:
        return replace(measured, quantity=words.in_place(measured.quantity))

    return replace(
        claim,
        measured=named(claim.measured),
        compared_with=claim.compared_with and named(claim.compared_with),
        correlated_with=claim.correlated_with and named(claim.correlated_with),
        needs=claim.needs and named(claim.needs),
        untrained=claim.untrained and named(claim.untrained),
        statement=words.said(claim.statement),
        source=words.said(claim.source),
        caution=words.said(claim.caution),
        unit=words.loss_unit if claim.unit == CLASSIFICATION.loss_unit else claim.unit,
    )
