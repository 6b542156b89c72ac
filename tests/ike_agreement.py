"""Do both sides of a ``Pair`` hold the same SAs?"""

from __future__ import annotations

from ike_pair import Pair, Side
from ipsecha.ike.flags import LEAVING
from ipsecha.model.numbers import HeaderFlag, Payload
from ipsecha.model.records import ChildState, IkeSa


def live(side: Side) -> dict[tuple[bytes, bytes], IkeSa]:
    """The IKE SAs that are in use, by their SPIs."""
    return {(sa.spi_i, sa.spi_r): sa for sa in side.sas if not sa.flags & LEAVING}


def check_at_rest(side: Side) -> None:
    """Nothing waits for anything, and the data plane has the child SAs that the records have."""
    children = [child for sa in side.sas for child in sa.children]
    for sa in side.sas:
        assert sa.exchange is None, f"{side.name}: {sa.exchange} is stuck"
        assert sa.queue == (), f"{side.name}: {sa.queue} is stuck"
        assert not sa.predecessor, f"{side.name}: {sa} is undecided"
    assert set(side.installed) == {child.spi_in for child in children}
    for child in children:
        assert child.state == ChildState.ESTABLISHED, f"{side.name}: {child} is in state {child.state}"
        assert child.use_outbound, f"{side.name}: {child} does not send"
        assert side.endpoint.child_index[child.spi_in] in side.endpoint.sas
    assert set(side.endpoint.child_index) == set(side.installed), "an SPI is reserved for nothing"


def check_messages(pair: Pair) -> None:
    """No two different messages bear one message ID in one direction (I4), and no IV is used twice under one key (I1):
    whoever has sent them."""
    by_id: dict[tuple[bytes, int, int], bytes] = {}
    by_iv: dict[tuple[bytes, int, bytes], bytes] = {}
    for packet in pair.sent:
        data = packet.data
        if len(data) < 40 or data[16] != Payload.SK:
            continue
        spis, flags = data[:16], data[19]
        assert by_id.setdefault((spis, flags, packet.message_id), data) == data
        assert by_iv.setdefault((spis, flags & HeaderFlag.INITIATOR, data[32:40]), data) == data


def check_agreement(pair: Pair) -> None:
    """Both sides are at rest and hold the same IKE SAs with the same child SAs and keys."""
    check_messages(pair)
    check_same_sas(pair)


def check_same_sas(pair: Pair) -> None:
    """The same without a look at the messages: those of RFC 6311 all have message ID 0."""
    for side in pair.sides:
        check_at_rest(side)
    left, right = live(pair.left), live(pair.right)
    assert left.keys() == right.keys()
    for spis, sa in left.items():
        peer = right[spis]
        assert sa.keys == peer.keys
        assert sa.initiator != peer.initiator
        assert sa.next_request_id == peer.expected_request_id
        assert sa.expected_request_id == peer.next_request_id
        theirs = {(child.spi_out, child.spi_in): child for child in peer.children}
        assert {(child.spi_in, child.spi_out) for child in sa.children} == set(theirs)
        for child in sa.children:
            other = theirs[child.spi_in, child.spi_out]
            half = len(child.keys) // 2
            assert (child.keys[:half], child.keys[half:]) == (other.keys[half:], other.keys[:half])
            assert (child.local_ts, child.remote_ts) == (other.remote_ts, other.local_ts)
            assert child.suite == other.suite
            assert child.name == other.name
