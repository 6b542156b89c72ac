"""``terminate`` and ``rekey`` of a connection with many SAs: in pages, between which everything else has its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ipsecha.gateway import commands
from ipsecha.gateway.control import ControlError
from ipsecha.ike.flags import CLOSING, REKEYED
from ipsecha.model.policy import Policy
from ipsecha.model.records import ChildState, ExchangeKind, IkeSa
from many_sas import Office, own_spi, owner_of

PAGE = 8
TOTAL = 5 * PAGE + 3


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "PAGE", PAGE)
    monkeypatch.setattr(commands, "PAGE_S", 60.0)
    monkeypatch.setattr(commands, "PAUSE_S", 0.0)
    monkeypatch.setattr(commands, "LOOKED_AT", PAGE)


@pytest.fixture
def office() -> Office:
    return Office(owner_of(TOTAL))


def _in_flight(sa: IkeSa) -> ExchangeKind | None:
    return ExchangeKind(sa.exchange.kind) if sa.exchange is not None else None


WORDS = [
    ("terminate", "", f"terminating {TOTAL} SAs", ExchangeKind.DELETE_IKE),
    ("terminate", "net", f"terminating {TOTAL} SAs", ExchangeKind.DELETE_CHILD),
    ("rekey", "", f"rekeying {TOTAL} IKE SAs", ExchangeKind.REKEY_IKE),
    ("rekey", "net", f"rekeying {TOTAL} child SAs", ExchangeKind.REKEY_CHILD),
]


@pytest.mark.parametrize(("command", "child", "text", "kind"), WORDS)
def test_all_sas_have_their_turn_and_no_commit_has_more_than_a_page(
    office: Office, command: str, child: str, text: str, kind: ExchangeKind
) -> None:
    assert office.ask(command, connection="site", child=child) == {
        "text": text,
        "affected": TOTAL,
        "warnings": (),
    }
    assert [_in_flight(sa) for sa in office.sas()] == [kind] * TOTAL
    assert [len(keys) for keys in office.cluster.commits] == [PAGE] * 5 + [3]
    assert len({key for keys in office.cluster.commits for key in keys}) == TOTAL


def test_one_that_is_deleted_or_replaced_by_then_is_not_rekeyed(office: Office) -> None:
    office.endpoint.sas[own_spi(3)].flags |= REKEYED
    office.endpoint.sas[own_spi(4)].children[0].state = ChildState.DELETING
    assert office.ask("rekey", connection="site")["affected"] == TOTAL - 1
    assert office.ask("rekey", connection="site", child="net")["affected"] == TOTAL - 2
    assert office.ask("rekey", connection="site", child="other")["text"] == "rekeying 0 child SAs"


def test_a_page_ends_early_where_its_work_takes_long(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key exchange with a large group."""
    monkeypatch.setattr(commands, "PAGE_S", 0.0)
    office.ask("rekey", connection="site")
    assert [len(keys) for keys in office.cluster.commits] == [1] * TOTAL


def _meanwhile(office: Office, command: str, event: Callable[[], object], child: str = "") -> dict[str, Any]:
    """The answer to ``command``; ``event`` happens behind its second page."""
    office.cluster.events[2] = event
    return office.ask(command, connection="site", child=child)


def test_other_work_has_its_turn_between_pages(office: Office) -> None:
    seen = []

    async def other_work() -> None:
        while True:
            seen.append(len(office.cluster.commits))
            await asyncio.sleep(0)

    async def work(office: Office) -> dict[str, Any]:
        other = asyncio.create_task(other_work())
        answer = await office.commands("rekey", {"connection": "site"})
        other.cancel()
        return answer

    office.run(work)
    assert set(seen) >= {1, 2, 3, 4}


@pytest.mark.parametrize(("command", "child"), [(command, child) for command, child, _, _ in WORDS])
def test_who_loses_the_sas_in_the_middle_stops(office: Office, command: str, child: str) -> None:
    def lose() -> None:
        office.member.owns = False
        office.endpoint.deactivate()

    with pytest.raises(ControlError, match="this member does not own the SAs: ask beta"):
        _meanwhile(office, command, lose, child)
    assert len([sa for sa in office.sas() if sa.exchange is not None]) == 2 * PAGE


def test_a_switchover_in_the_middle_stops_it(office: Office) -> None:
    def begin() -> None:
        office.gateway.divert = lambda data, local, remote: None

    with pytest.raises(ControlError, match="a switchover is under way"):
        _meanwhile(office, "terminate", begin)


def test_a_connection_that_is_gone_in_the_middle_is_said_so(office: Office) -> None:
    endpoint = office.endpoint
    with pytest.raises(ControlError, match='no connection "site"'):
        _meanwhile(office, "rekey", lambda: endpoint.configure(Policy(()), endpoint.credentials, endpoint.now))


def test_sas_that_vanish_meanwhile_are_not_counted(office: Office) -> None:
    endpoint = office.endpoint

    def vanish() -> None:
        for sa in office.sas():
            if sa.exchange is None:
                endpoint.forget(sa.local_spi)

    assert _meanwhile(office, "terminate", vanish)["affected"] == 2 * PAGE


def test_one_that_is_rekeyed_meanwhile_is_terminated_in_its_new_shape(office: Office) -> None:
    """Else a peer that rekeys at the wrong moment would keep its tunnel."""
    endpoint = office.endpoint

    def rekeyed() -> None:
        for number, sa in enumerate(office.sas()):
            if sa.exchange is None:
                endpoint.forget(sa.local_spi)
                sa.spi_r = own_spi(TOTAL + number)
                endpoint.adopt(sa)

    assert _meanwhile(office, "terminate", rekeyed)["affected"] == TOTAL
    assert all(sa.flags & CLOSING for sa in office.sas())


def test_a_connection_is_held_before_its_first_sa_is_deleted(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    terminate = office.endpoint.terminate

    def noting(*arguments: Any, **named: Any) -> int:
        held.append("site" in office.endpoint.held)
        return terminate(*arguments, **named)

    monkeypatch.setattr(office.endpoint, "terminate", noting)
    office.ask("terminate", connection="site")
    assert held == [True] * TOTAL


def test_a_child_is_terminated_without_holding_its_connection(office: Office) -> None:
    office.ask("terminate", connection="site", child="net")
    assert not office.endpoint.held


@pytest.mark.parametrize("whose", ["our own", "the peer's"])
@pytest.mark.parametrize("command", ["terminate", "rekey"])
def test_one_ike_sa_by_either_spi(office: Office, whose: str, command: str) -> None:
    own = own_spi(30)
    office.ask(command, spi=(own if whose == "our own" else own[::-1]).hex())
    assert [sa.local_spi for sa in office.sas() if sa.exchange is not None] == [own]
    thawed = [spi for spi in office.endpoint.sas if office.endpoint.sas.thawed(spi) is not None]
    assert thawed == [own], "looking for it leaves the others as they are"


def test_the_search_for_an_spi_gives_way_and_stops_with_the_ownership(office: Office) -> None:
    async def work(office: Office) -> dict[str, Any]:
        asyncio.get_running_loop().call_soon(setattr, office.member, "owns", False)
        return await office.commands("rekey", {"spi": "ff" * 8})

    with pytest.raises(ControlError, match="does not own the SAs"):
        office.run(work)


def test_an_spi_that_nobody_has(office: Office) -> None:
    with pytest.raises(ControlError, match="no IKE SA has the SPI ffffffffffffffff"):
        office.ask("rekey", spi="ff" * 8)
