"""The owner of one side dies at every message boundary of the handshake, in both roles: another goes on from what the
backup has heard, and the peer does not start over."""

from __future__ import annotations

import pytest

from ike_agreement import check_agreement
from ike_failover import Backup
from ike_pair import Packet, Pair, left_connection, right_connection
from ipsecha.model.effects import ReplicateInitiation, Transmit
from ipsecha.model.handshakes import decode_half_open, decode_initiation
from ipsecha.model.numbers import ExchangeType

MESSAGES = 4


class Handshake:
    """A pair whose sides have backups, before anything is said; ``network`` of the pair may lose what it wants."""

    def __init__(self, pair: Pair | None = None) -> None:
        self.pair = pair or Pair()
        self.backups = {side.name: Backup(self.pair, side) for side in self.pair.sides}

    @property
    def queue(self) -> list[Packet]:
        return self.pair.queue

    def begin(self) -> None:
        self.pair.left.endpoint.initiate("site", None, self.pair.now)
        self.pair.gather()

    def deliver(self) -> None:
        self.pair.deliver(self.pair.queue.pop(0))
        self.pair.gather()

    def take_over(self, *names: str) -> None:
        for name in names:
            self.backups[name].take_over()
        self.pair.gather()

    def initiator_spis(self) -> set[bytes]:
        return {packet.data[:8] for packet in self.pair.sent if packet.exchange == ExchangeType.IKE_SA_INIT}


@pytest.mark.parametrize("lost", [False, True], ids=["", "and that message is lost"])
@pytest.mark.parametrize("boundary", range(MESSAGES + 1))
@pytest.mark.parametrize("dies", ["left", "right", "left right"])
def test_the_handshake_goes_on(dies: str, boundary: int, lost: bool) -> None:
    """RFC 7296 section 2.1: requests and responses are repeated bitwise.  Only an initiator that dies before it has
    sent its IKE_AUTH begins afresh, once its owner is asked again."""
    handshake = Handshake()
    pair = handshake.pair
    handshake.begin()
    for _ in range(boundary):
        if handshake.queue:
            handshake.deliver()
    handshake.take_over(*dies.split())
    if lost and handshake.queue:
        handshake.queue.pop(0)
    pair.advance(30.0)
    forgotten = "left" in dies and boundary <= 1
    if forgotten:
        assert pair.left.sas == pair.right.sas == []
        return
    assert len(pair.left.sas) == len(pair.right.sas) == 1
    assert len(handshake.initiator_spis()) == 1
    assert not pair.left.endpoint.initiations
    assert len(pair.left.sa.children) == len(pair.right.sa.children) == 1
    check_agreement(pair)
    for side in pair.sides:
        assert list(side.installed) == [child.spi_in for child in side.sa.children]


def test_repeated_messages_of_both_owners_are_the_same() -> None:
    """The response to IKE_SA_INIT, repeated by the new owner, and an initiator's IKE_AUTH are those of the old one."""
    handshake = Handshake()
    handshake.begin()
    request = handshake.queue[0]
    handshake.deliver()
    response = handshake.queue[0]
    handshake.take_over("right")
    handshake.queue.insert(0, request)
    handshake.deliver()
    assert [packet.data for packet in handshake.queue] == [response.data, response.data]
    handshake.deliver()
    authentication = handshake.queue.pop()
    handshake.queue.clear()
    handshake.take_over("left")
    handshake.pair.advance(1.5)
    assert [packet.data for packet in handshake.pair.sent].count(authentication.data) >= 2
    assert len(handshake.pair.left.sas) == 1


@pytest.mark.parametrize("received", [0, 1])
def test_a_request_in_fragments_is_sent_again_as_a_whole(received: int) -> None:
    """RFC 7383 section 2.6.1: the sender repeats all fragments, so what the old owner had of them is not missed."""
    ways = {"fragmentation": True, "fragment_size": 200}
    handshake = Handshake(Pair(left_connection(**ways), right_connection(**ways)))
    pair = handshake.pair
    handshake.begin()
    handshake.deliver()
    handshake.deliver()
    assert len(handshake.queue) == 2
    for _ in range(received):
        handshake.deliver()
    handshake.queue.clear()
    handshake.take_over("right")
    pair.advance(10.0)
    assert len(pair.left.sas) == len(pair.right.sas) == 1
    assert len(handshake.initiator_spis()) == 1
    check_agreement(pair)


def test_secrets_of_handshakes_show_nowhere() -> None:
    """I6: what travels to the backup holds keys; what is printed of it does not."""
    handshake = Handshake()
    handshake.begin()
    handshake.deliver()
    handshake.deliver()
    (state,) = handshake.backups["right"].shared
    (octets,) = handshake.backups["left"].initiations.values()
    half_open, initiation = decode_half_open(state), decode_initiation(octets)
    assert half_open.keys == initiation.keys
    effects = [effect for side in handshake.pair.sides for effect in side.effects if not isinstance(effect, Transmit)]
    objects = [half_open, initiation, *handshake.pair.right.endpoint.half_open.by_spi.values()]
    text = repr(effects) + repr(objects) + repr(handshake.pair.left.endpoint.initiations)
    keys = initiation.keys
    for start in range(0, len(keys) - 8, 8):
        assert keys[start : start + 8].hex() not in text
        assert repr(keys[start : start + 8])[2:-1] not in text


def test_an_authenticated_request_of_ours_leaves_behind_its_record() -> None:
    """Output commit: the record first, and the request is not stateless."""
    handshake = Handshake()
    handshake.begin()
    handshake.deliver()
    seen = len(handshake.pair.left.effects)
    handshake.deliver()
    record, request = handshake.pair.left.effects[seen:]
    assert isinstance(record, ReplicateInitiation)
    assert isinstance(request, Transmit)
    assert not request.stateless
    assert record.record is not None
    assert decode_initiation(record.record).request == request.datagrams


def test_a_handshake_that_ends_while_a_snapshot_is_under_way_is_not_in_it() -> None:
    """Its record would come to the backup behind the news of its end, and be begun again after a takeover."""
    handshake = Handshake()
    endpoint = handshake.pair.left.endpoint
    handshake.begin()
    for _ in range(2):
        handshake.deliver()
    (initiation,) = endpoint.initiations.values()
    endpoint.initiations = {b"another": initiation, **endpoint.initiations}
    records = endpoint.handshake_records()
    assert next(records)[0] == b"another"
    del endpoint.initiations[b"another"]
    handshake.pair.run()
    assert not endpoint.initiations
    assert list(records) == []
