"""The verdicts of a failover fail when they must: each is shown a wire or a report that is wrong in one way."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from ipsecha.lab.capture import Capture, Packet
from ipsecha.lab.failover import Fault, Outcome, Scene, judge, read_wire
from ipsecha.lab.member import Member, toml
from ipsecha.lab.probes import Probes, Report

CLUSTER, PEER = "192.0.2.10", "192.0.2.20"
OLD, NEW, FAR = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"
OUT, IN = 0x1111, 0x2222
FAULT_AT = 10.0
GOOD = Report(sent=100, answered=90, lost=10, lost_outbound=5, duplicates=0, longest_gap_s=0.1, recovered_s=0.1)


class FakeScene:
    """A scene after the curtain: only what the verdicts look at."""

    def __init__(self, wire: bool = True) -> None:
        self.members = cast("tuple[Member, Member]", ())
        self.probes = cast("Probes", None)
        self.wire = cast("Capture", object()) if wire else None
        self.witness = None
        self.cluster_address = CLUSTER
        self.directory = Path()

    def bring_up(self) -> None: ...
    def strike(self, fault: Fault, active: Member) -> float:
        return FAULT_AT

    def heal(self, fault: Fault, failed: Member) -> None: ...
    def play_back(self, packets: list[Packet]) -> int:
        return len(packets)

    def peer_rekeys(self, child: str) -> None: ...
    def peer_spis(self) -> list[tuple[str, str]]:
        return []


def esp(at: float, mac: str, spi: int, sequence: int) -> Packet:
    ends = (PEER, CLUSTER) if mac == FAR else (CLUSTER, PEER)
    return Packet(at, mac, *ends, 4500, 4500, spi, sequence, 0, b"")


def ike(at: float, exchange: int) -> Packet:
    return Packet(at, FAR, PEER, CLUSTER, 4500, 4500, 0, 0, exchange, b"")


WIRE = [
    ike(1.0, 34),
    ike(1.1, 35),
    esp(2.0, FAR, IN, 1),
    esp(2.1, OLD, OUT, 1),
    esp(9.9, OLD, OUT, 2),
    esp(10.05, FAR, IN, 2),
    esp(10.2, NEW, OUT, 100),
    esp(10.3, FAR, IN, 3),
    ike(11.0, 37),
]


def failing(
    wire: list[Packet],
    a: Report = GOOD,
    owner: str = "gw2",
    returned_s: float | None = 1.0,
    spis_after: Sequence[str] = ("1", "2"),
) -> set[str]:
    """The claims that do not hold."""
    outcome = Outcome("kill", "gw1", owner, 5, 6, ["1", "2"], list(spis_after), 0.1, a, GOOD, returned_s=returned_s)
    scene: Scene = FakeScene()
    read_wire(outcome, scene, wire, FAULT_AT)
    outcome.verdicts = judge(outcome, scene, wire, FAULT_AT)
    failed = {verdict.claim for verdict in outcome.verdicts if not verdict.holds}
    assert outcome.holds == (not failed)
    return failed


def test_a_good_failover_holds() -> None:
    assert failing(WIRE) == set()


@pytest.mark.parametrize(
    ("extra", "claim"),
    [
        ([esp(10.4, NEW, OUT, 2)], "no sequence number is used twice"),
        ([esp(10.4, OLD, OUT, 3)], "one owner at a time sends"),
        ([ike(10.4, 36)], "no renegotiation on the wire"),
        ([esp(10.4, NEW, 0x3333, 1)], "no renegotiation on the wire"),
    ],
)
def test_what_must_not_be_on_the_wire(extra: list[Packet], claim: str) -> None:
    assert failing(WIRE + extra) == {claim}


def test_a_wire_that_falls_silent_is_no_proof() -> None:
    assert failing(WIRE[:5]) == {"no renegotiation on the wire"}


def test_what_the_probes_and_members_must_show() -> None:
    assert failing(WIRE, GOOD._replace(duplicates=1)) == {"nothing is delivered twice"}
    assert failing(WIRE, GOOD._replace(recovered_s=None)) == {"traffic flows again, both ways"}
    for owner in ("gw1", "nobody"):
        assert failing(WIRE, owner=owner) == {"the other member owns the tunnel, in a later epoch"}
    assert failing(WIRE, spis_after=["1", "3"]) == {"the tunnel is the same: no SA was replaced"}
    assert failing(WIRE, returned_s=None) == {"the failed member returns as standby"}


def test_without_a_capture_there_are_no_verdicts_on_the_wire() -> None:
    outcome = Outcome("kill", "gw1", "gw2", 5, 6, a=GOOD, b=GOOD, returned_s=1.0)
    assert len(judge(outcome, FakeScene(wire=False), [], FAULT_AT)) == 5


def test_settings_are_written_as_toml() -> None:
    settings = {"a": 1, "list": ["x", "y"], "rows": [{"k": True}], "t": {"s": {"q": 'a"b'}}}
    assert tomllib.loads(toml(settings)) == settings
