"""What a table of the paper is, and what a check of it gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

MATCH, TRUNCATED, DIFFERS, UNPRINTED = 'match', 'match, truncated', 'differs', 'not in the paper'

UNITS = {'params': 'M', 'flops': 'G', 'memory': 'MiB', 'saved': '%'}


@dataclass(frozen=True)
class Counted:
    """A counted figure in the unit of the table.

    Attributes:
        value: In the convention of the paper.
        pooling_first: As ATConv here computes; None where the order makes no difference.
    """

    value: float
    pooling_first: float | None = None


@dataclass(frozen=True)
class Row:
    """A row of a table of the paper.

    Attributes:
        model: As the paper names it.
        printed: The paper's figures as printed, by quantity.
        count: Gives the counted figures by quantity; what the paper does not print may be among them.
        reasons: By quantity, why it does not reproduce or what to know about it.
    """

    model: str
    printed: Mapping[str, str]
    count: Callable[[], Mapping[str, Counted]]
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table of the paper: its number, what it is about and how it was counted, its rows."""

    name: str
    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Figure:
    """A figure of the paper beside the counted one.

    Attributes:
        table: Number of the table.
        model: As the paper names it.
        quantity: A key of UNITS.
        paper: As printed, or None.
        counted: In the convention of the paper.
        pooling_first: In the order ATConv here computes in, or None.
        difference: ``counted`` less ``paper``, or None.
        verdict: MATCH if ``counted`` rounds to what is printed, TRUNCATED if only cutting its digits off gives that,
            else DIFFERS; UNPRINTED where the paper has no figure.
        reason: Why it differs, or what to know about it.
    """

    table: str
    model: str
    quantity: str
    paper: str | None
    counted: float
    pooling_first: float | None
    difference: float | None
    verdict: str
    reason: str


def compare(printed: str | None, counted: float) -> str:
    """The verdict on a printed figure."""
    if printed is None:
        return UNPRINTED
    paper, exact = Decimal(printed), Decimal(repr(counted))
    if exact.quantize(paper, ROUND_HALF_UP) == paper:
        return MATCH
    return TRUNCATED if exact.quantize(paper, ROUND_DOWN) == paper else DIFFERS


def check(table: Table, row: Row) -> list[Figure]:
    """The figures of a row, counted."""
    return [
        Figure(
            table=table.name,
            model=row.model,
            quantity=quantity,
            paper=(printed := row.printed.get(quantity)),
            counted=counted.value,
            pooling_first=counted.pooling_first,
            difference=None if printed is None else counted.value - float(printed),
            verdict=compare(printed, counted.value),
            reason=row.reasons.get(quantity, ''),
        )
        for quantity, counted in row.count().items()
    ]
