"""The corpus of malformed octets: WireError, and nothing else."""

from __future__ import annotations

import pytest
from malformed import TABLES, Malformed

from ipsecha.model.errors import WireError


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{name}: {case.reason}") for name, table in TABLES.items() for case in table]
)
def test_malformed_octets_raise_wire_error(case: Malformed) -> None:
    with pytest.raises(WireError):
        case.parse(case.octets)


def test_no_case_is_listed_twice() -> None:
    for name, table in TABLES.items():
        reasons = [case.reason for case in table]
        assert len(reasons) == len(set(reasons)), name
