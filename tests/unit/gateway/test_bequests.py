"""What the owner that stays takes of the other one's records (``ipsecha.gateway.bequests``)."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from esp_pair import child_sa, ike_sa
from ipsecha.cluster import effects as fx
from ipsecha.gateway.bequests import Bequests
from ipsecha.gateway.faults import Faults
from ipsecha.model.records import IkeSa, encode_record

LANES, SINCE = 12, 100.0


class Heir:
    """The owner that stays: what its endpoint is given."""

    def __init__(self) -> None:
        self.taken: list[IkeSa] = []
        endpoint = SimpleNamespace(inherit=lambda sas, above_lanes, now: self.taken.extend(sas))
        self.faults = Faults(lambda: 0.0)
        gateway: Any = SimpleNamespace(endpoint=endpoint, faults=self.faults)
        self.bequests = Bequests(gateway, SimpleNamespace())  # type: ignore[arg-type]

    def inherit(self, *records: bytes, since: float = SINCE) -> list[float]:
        """When the IKE SAs were made that it takes."""
        self.bequests.inherit(fx.Inherit(records, LANES, since), 0.0)
        return [sa.created_at for sa in self.taken]


def record(made_at: float, *children_at: float) -> bytes:
    sa = ike_sa(*(child_sa(number, 1, created_at=at) for number, at in enumerate(children_at, 1)))
    sa.created_at = made_at
    return encode_record(sa)


def test_what_the_other_one_alone_can_have_is_taken() -> None:
    assert Heir().inherit(record(100.0), record(130.0, 140.0)) == [100.0, 130.0]


def test_what_this_process_may_have_used_is_not(caplog: pytest.LogCaptureFixture) -> None:
    """Nor a rekeyed IKE SA with a child SA that was there before."""
    assert Heir().inherit(record(99.0), record(130.0, 140.0, 99.0), record(150.0)) == [150.0]
    assert caplog.messages == ["cluster: 2 IKE SAs of the other owner are lost: this member has used them, too"]


def test_who_has_forgotten_nothing_takes_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert Heir().inherit(record(0.5, 0.5), since=0.0) == [0.5]
    assert not caplog.messages


def test_a_record_that_makes_no_sense_is_a_fault_and_nothing_else() -> None:
    heir = Heir()
    assert heir.inherit(b"\xc1", record(130.0)) == [130.0]
    assert heir.faults.count == 1
