"""What a member that comes back makes of its file (``ipsecha.gateway.saved_state``)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from ike_failover import Backup
from ike_pair import Pair, left_connection, right_connection
from ipsecha.cluster.journal import Opening, Saved
from ipsecha.gateway.saved_state import adopt_saved
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.model.records import ChildState, ExchangeKind


def test_a_child_sa_whose_request_was_saved_is_not_made_a_second_time() -> None:
    """It may have been made, and its numbers used, after the record was saved: with these keys they must not begin
    again.  The peer gives the same answer to the same request."""
    pair = Pair(left_connection(), right_connection())
    pair.establish()
    side, backup = pair.left, Backup(pair, pair.left)
    (old,) = side.sa.children
    side.endpoint.rekey_child(old.spi_in, pair.now)
    requests = side.collect()
    saved = Saved(Opening("berlin", "alpha", True, 16, 16, 16), dict(backup.octets), {old.spi_in: (100, 1000)})
    for packet in requests:
        pair.deliver(packet)
    pair.run()
    made = {child.spi_in for child in side.sa.children if child.state == ChildState.ESTABLISHED}
    assert made != {old.spi_in}

    before = side.endpoint
    side.endpoint = IkeEndpoint(before.policy, before.credentials, before.entropy, wall_clock=before.wall_clock)
    side.installed.clear()
    assert adopt_saved(cast("Any", SimpleNamespace(endpoint=side.endpoint, flush=lambda: None)), saved) == 0
    exchange = side.endpoint.sas[side.sa.local_spi].exchange
    assert exchange is not None
    assert exchange.kind == ExchangeKind.PROBE
    side.endpoint.activate(500, pair.now)
    pair.run()
    pair.advance(3.0)
    assert not made & {child.spi_in for sa in side.endpoint.sas.values() for child in sa.children}
    assert [child.state for child in side.sa.children] == [ChildState.ESTABLISHED]
    assert {child.spi_out for child in side.sa.children} == {child.spi_in for child in pair.right.sa.children}
