"""The owner of one side dies at every message boundary of every exchange, in both roles: another goes on from the
record alone, and nothing is negotiated again."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from ike_agreement import check_agreement, live
from ike_failover import Backup
from ike_pair import Packet, Side, child_policy, esp, left_connection, right_connection
from ike_steps import Steps, delete_child, delete_ike, new_child, rekey_child, rekey_ike
from ipsecha.model.numbers import ExchangeType

Action = Callable[[Side, Steps], list[Packet]]


def check_liveness(side: Side, steps: Steps) -> list[Packet]:
    return steps.do(lambda: side.endpoint.check_liveness(side.sa.local_spi, steps.now))


class Case(NamedTuple):
    """An exchange, the number of messages until all is done, and whether the child SA has a key exchange of its own."""

    action: Action
    messages: int
    pfs: bool = False


CASES = {
    "new child": Case(new_child, 2),
    "new child with PFS": Case(new_child, 2, pfs=True),
    "child rekey": Case(rekey_child, 4),
    "child rekey with PFS": Case(rekey_child, 4, pfs=True),
    "IKE rekey": Case(rekey_ike, 4),
    "delete of a child": Case(delete_child, 2),
    "delete of the IKE SA": Case(delete_ike, 2),
    "liveness": Case(check_liveness, 2),
}
BOUNDARIES = [
    pytest.param(case, boundary, id=f"{name}, after message {boundary}")
    for name, case in CASES.items()
    for boundary in range(case.messages + 1)
]


def _steps(case: Case) -> Steps:
    proposals = (esp("aes128gcm16-x25519" if case.pfs else "aes128gcm16"),)
    left = child_policy(proposals=proposals)
    right = child_policy(local="10.2.0.0/16", remote="10.1.0.0/16", proposals=proposals)
    return Steps("left", left_connection(children=(left,)), right_connection(children=(right,)))


def _run(steps: Steps, packets: list[Packet], boundary: int, take_over: Callable[[], None], *, lost: bool) -> None:
    """Deliver all messages; after as many as ``boundary`` the owner changes, and the message on its way may be lost."""
    queue = packets
    delivered = 0
    while True:
        if delivered == boundary:
            take_over()
            queue += steps.take()
            if lost:
                queue = queue[1:]
            delivered += 1  # once only
        if not queue:
            break
        queue += steps.deliver(queue.pop(0))
        delivered += 1
    steps.pair.advance(60.0)


def _creations(steps: Steps) -> set[bytes]:
    """The CREATE_CHILD_SA requests seen, without repetitions."""
    return {
        packet.data
        for packet in steps.pair.sent
        if packet.exchange == ExchangeType.CREATE_CHILD_SA and not packet.is_response
    }


@pytest.mark.parametrize("lost", [False, True], ids=["", "and that message is lost"])
@pytest.mark.parametrize("dies", ["initiator", "responder", "both"])
@pytest.mark.parametrize(("case", "boundary"), BOUNDARIES)
def test_the_record_is_enough(case: Case, boundary: int, dies: str, lost: bool) -> None:
    """DESIGN section 3, output commit: the record holds what the next owner needs to go on in mid-exchange; RFC 7296
    section 2.1: what it repeats is bitwise identical."""
    undisturbed = _steps(case)
    _run(undisturbed, case.action(undisturbed.a, undisturbed), -1, lambda: None, lost=False)
    steps = _steps(case)
    backups = [Backup(steps.pair, side) for side in steps.pair.sides]
    for side in steps.pair.sides:
        side.endpoint.touch(side.sa)
        side.endpoint.end_step()
    steps.take()
    dying = {"initiator": backups[:1], "responder": backups[1:], "both": backups}[dies]

    def take_over() -> None:
        for backup in dying:
            backup.take_over()

    _run(steps, case.action(steps.a, steps), boundary, take_over, lost=lost)
    check_agreement(steps.pair)
    assert [len(sa.children) for sa in live(steps.a).values()] == [
        len(sa.children) for sa in live(undisturbed.a).values()
    ]
    assert len(_creations(steps)) == len(_creations(undisturbed))
    assert sum(packet.exchange == ExchangeType.IKE_SA_INIT for packet in steps.pair.sent) == 2
    assert "peer-dead" not in steps.a.events + steps.b.events


def test_no_secret_shows_in_the_text_of_a_record() -> None:
    """I6: neither private keys nor nonces nor keys appear where a record is printed."""
    steps = _steps(CASES["child rekey with PFS"])
    rekey_child(steps.a, steps)
    exchange = steps.a.sa.exchange
    assert exchange is not None
    text = repr(steps.a.sa) + repr(exchange) + repr(steps.a.sa.children) + str(exchange)
    for secret in (exchange.private_key, exchange.nonce, steps.a.sa.keys, steps.a.sa.children[0].keys):
        assert secret
        assert repr(secret)[2:-1] not in text
        assert secret.hex() not in text
