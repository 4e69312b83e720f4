"""Claims as data: a claim names quantities and axes of a study's long tables, the test, and where it was published.

A claim file is a YAML list. Each entry has these keys; those with a default may be left out:

name            of the claim, unique over all files
statement       one sentence. It may name an axis in braces, `(≤ {threshold})`, which each test fills in
source          where it was published
test            rises, falls    the quantity with the level (`over`), seeds as blocks
                rises_with      the quantity with `correlated_with`, from run to run of one seed
                shrinks         the gap of the quantity: its mean over all larger batch sizes that both studies have,
                                minus that at the smallest, against the gap of the study `claims.reference`
                recovers        as shrinks, and the quantity itself falls at the larger batch sizes: a gap also shrinks
                                when the smallest batch gets worse, and that is no remedy
                removes_half    as recovers, against half of the reference's gap
                below_reference, above_reference
                                the quantity, as a mean over all batch sizes that both studies have, against
                                `claims.reference`
                same_as_reference
                                equal to that of `claims.reference` within the margin, at each of these sizes
                less_dispersed  the quantity varies less from seed to seed than in `claims.reference`, at the largest of
                                these sizes. It takes ten seeds
                equals          the quantity is `value` within the margin at every level. Contradicted where it is
                                outside at some level. Without a margin only that can be shown
                exceeds         the quantity is above `value` at every level. Contradicted where it is below at some
                follows_power   the quantity goes as level^`value`: its local exponent, from each level to the next, is
                                `value` within the margin
                u_shaped        both ends are above one of the levels between
quantity        what is tested, by its name in the long table. A list of names: the first one that the study has
measure         the measure that gives the quantity. Only studies that list it have the claim; default: every study
value           of equals, exceeds, follows_power: the stated value
where           axis -> value: which rows of the quantity. A list of values: the first one that a network has, since
                networks name their layers differently
each            axes: one test for each value that the study has
first           axes: one test, at the first value that the study has
compared_with   {quantity, where}: subtracted, or divided by where the unit is `times`. It is taken at the same `each`
                and `first` values, if it has these axes
correlated_with {quantity, where}: see rises_with
needs           {quantity, where}: the claim is not testable where this is 0 in every run
uncertain       a quantity that is above 0 in the runs in which error bounds leave the tested value open
unit            of the effect: points, nats (variances in regression, nats per token in text), values, eigenvalues (both
                are counts), share, correlation, times (a ratio)
family          primary         what the paper's abstract and conclusions state: corrected together (Holm)
                secondary       the default: reported with its uncorrected p value, and labelled so
controls        name of the claim that this one is a control of. Controls are a family of their own. One is tested only
                where the claim that it controls is supported
untrained       {quantity, where}: the part of the quantity that is there without training, such as structural zeros.
                Where it is in every seed at least half of the mean change, the verdict is "by construction"
margin          {value, because}: the largest effect that counts as none, in the unit of the effect, and its reason. Of
                `times` a factor, of counts (`values`) a share of all the values that there are. A claim without a
                margin is never said to have no effect
share           for unit: values. The same count as a share of all values, by its name in the long table
arm             which studies test it, by their `claims.arm`; default: plain
over            the level: batch_size (default), width or start_epoch; or, of the records of `measure`, images or
                discarded; none: one value per seed. Records with a batch size count at the smallest one
own_interval    true: the quantity counts in halves of its own 95 % interval, where each value has one. Above 1, that
                interval excludes 0
only            of tests against a reference: the one batch size that is compared
of              for over: width. `largest`: the value at the largest batch size; `gap`: largest minus smallest
ends            true: tested at the first and the last level alone. For quantities whose spread grows with the level
                although nothing happens, which would pass for a trend
one_way         true: chance works against the claim, so that the opposite direction is not tested
caution         what a reader must know besides the verdict
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

import yaml

from gapscope.errors import InputError, did_you_mean
from gapscope.records.long import AXES, axis_text

# the part of the reference's gap below which this one has to come
REMOVED = {"shrinks": 1.0, "recovers": 1.0, "removes_half": 0.5}
REMEDIES = {"recovers", "removes_half"}  # in which the larger batches themselves have to be better than the reference's
OF_REFERENCE = (*REMOVED, "below_reference", "above_reference", "same_as_reference", "less_dispersed")
STATED = ("equals", "exceeds", "follows_power")
TESTS = ("rises", "falls", "rises_with", "u_shaped", *STATED, *OF_REFERENCE)
OF_RECORDS = ("images", "discarded", "none")  # levels that are read from a measure's own records
LEVELS = ("batch_size", "width", "start_epoch", *OF_RECORDS)
FAMILIES = ("primary", "secondary")
CORRECTED = ("primary", "exploratory", "control")  # families of tests; each is corrected for its own number of claims


@dataclass(frozen=True)
class Measured:
    """A quantity at given axes."""

    quantity: str
    where: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        values = ", ".join(axis_text(value) for value in self.named.values())
        return f"{self.quantity} ({values})" if values else self.quantity

    @property
    def named(self) -> dict[str, Any]:
        """Return the axes with a list of values as one text."""
        return {axis: " or ".join(of) if isinstance(of, list) else of for axis, of in self.where.items()}


@dataclass(frozen=True)
class Margin:
    """The largest effect that counts as none."""

    value: float
    because: str  # why this much


@dataclass(frozen=True)
class Claim:
    """One claim; the module's docstring says what the fields mean."""

    name: str
    statement: str
    source: str
    test: str
    measured: Measured
    unit: str
    quantities: tuple[str, ...] = ()  # where the study chooses one of several
    measure: str = ""
    value: float | None = None
    only: int | None = None
    each: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    compared_with: Measured | None = None
    correlated_with: Measured | None = None
    needs: Measured | None = None
    untrained: Measured | None = None
    margin: Margin | None = None
    share: str = ""
    family: str = "secondary"
    controls: str = ""
    uncertain: str = ""
    arm: str = "plain"
    over: str = "batch_size"
    of: str = ""
    ends: bool = False
    one_way: bool = False
    own_interval: bool = False
    caution: str = ""
    paper: str = ""  # the folder whose file it is from

    def __post_init__(self) -> None:
        for name, value, known in (
            ("test", self.test, TESTS), ("over", self.over, LEVELS), ("family", self.family, FAMILIES)
        ):  # fmt: skip
            if value not in known:
                raise InputError(f"claim {self.name}: unknown {name} {value!r}; {did_you_mean(value, known)}")
        named = [
            of for of in (self.measured, self.compared_with, self.correlated_with, self.needs, self.untrained) if of
        ]
        for axis in [*self.each, *self.first, *(axis for of in named for axis in of.where)]:
            if axis not in AXES:
                raise InputError(f"claim {self.name}: unknown axis {axis!r}; {did_you_mean(axis, AXES)}")
        if (self.correlated_with is not None) != (self.test == "rises_with"):
            raise InputError(
                f"claim {self.name}: the test rises_with needs correlated_with, and no other test takes it"
            )
        if (self.value is not None) != (self.test in STATED):
            raise InputError(
                f"claim {self.name}: the tests {', '.join(STATED)} need a value, and no other test takes it"
            )
        if self.only is not None and self.test not in OF_REFERENCE:
            raise InputError(
                f"claim {self.name}: only belongs to a test against a reference: {', '.join(OF_REFERENCE)}"
            )
        if self.over in OF_RECORDS and not self.measure:
            raise InputError(f"claim {self.name}: over: {self.over} needs a measure, whose records are read")
        if (self.of in ("largest", "gap")) != (self.over == "width"):
            raise InputError(f"claim {self.name}: over: width needs of: largest or gap, and no other level takes it")

    @property
    def counted(self) -> "tuple[Measured, Measured | None] | None":
        """Return the tested count, and what it is compared with, as shares of all values; None where it is no count."""
        if not self.share:
            return None
        beside = self.compared_with
        return Measured(self.share, self.measured.where), beside and Measured(self.share, beside.where)

    def stated(self, at: Mapping[str, Any]) -> str:
        """Return the statement with its axes filled in; an axis without a value stays as its name.

        Example:
            >>> claim = Claim("a", "It rises (≤ {threshold})", "nowhere", "rises", Measured("count"), "values")
            >>> claim.stated({"threshold": 0.0001}), claim.stated({})
            ('It rises (≤ 1e-4)', 'It rises (≤ threshold)')
        """
        return self.statement.format_map({axis: axis_text(at.get(axis, "any")) for axis in AXES})


def read_claims(text: str, paper: str) -> tuple[Claim, ...]:
    """Return the claims of a file, in its order.

    Args:
        text: YAML, as the module's docstring describes it.
        paper: name of the folder that the file is in.

    Raises:
        InputError: an unknown, missing or misspelt key, test or axis.
    """
    return tuple(_claim(entry, paper) for entry in yaml.safe_load(text) or [])


def _claim(entry: Mapping[str, Any], paper: str) -> Claim:
    name = entry.get("name", "without a name")
    known = [of.name for of in fields(Claim) if of.name not in ("measured", "quantities", "paper")]
    _check(entry, [*known, "quantity", "where"], f"claim {name}")
    needed = [of.name for of in fields(Claim) if of.default is MISSING and of.name != "measured"]
    if missing := [key for key in [*needed, "quantity"] if key not in entry]:
        raise InputError(f"claim {name}: {', '.join(missing)} is missing")
    more = {key: value for key, value in entry.items() if key not in ("quantity", "where")}
    for key in ("compared_with", "correlated_with", "needs", "untrained"):
        if key in more:
            _check(more[key], ["quantity", "where"], f"claim {name}, {key}")
            more[key] = Measured(**more[key])
    if "margin" in more:
        _check(more["margin"], ["value", "because"], f"claim {name}, margin")
        if missing := [key for key in ("value", "because") if key not in more["margin"]]:
            raise InputError(f"claim {name}, margin: {', '.join(missing)} is missing")
        more["margin"] = Margin(**more["margin"])
    for key in ("each", "first"):
        more[key] = tuple(more.get(key, ()))
    names = entry["quantity"] if isinstance(entry["quantity"], list) else [entry["quantity"]]
    measured = Measured(names[-1], entry.get("where", {}))
    return Claim(measured=measured, quantities=tuple(names), paper=paper, **more)


def _check(entry: Mapping[str, Any], known: Sequence[str], whose: str) -> None:
    for key in entry:
        if key not in known:
            raise InputError(f"{whose}: unknown key {key!r}; {did_you_mean(key, known)}")
