"""CREATE_CHILD_SA for the IKE SA: RFC 7296 sections 1.3.2, 2.8 and 2.18."""

from __future__ import annotations

import pytest

from ike_agreement import live
from ike_pair import IKE_PROPOSAL, left_connection, proposal, right_connection
from ike_steps import (
    Steps,
    body,
    delete_ike,
    is_ike_delete,
    new_child,
    notifies,
    only_notify,
    rekey_child,
    rekey_ike,
    types,
)
from ipsecha.crypto.key_derivation import derive_rekeyed_ike_keys, pack_record_keys, unpack_record_keys
from ipsecha.crypto.key_exchange import restore_key_exchange
from ipsecha.ike.flags import LEAVING
from ipsecha.model.numbers import ExchangeType, Group, Notify, Payload, Protocol, TransformType
from ipsecha.model.proposals import Proposal, Transform
from ipsecha.model.records import IkeFlag
from ipsecha.wire.payloads.ke import build_ke, parse_ke
from ipsecha.wire.payloads.sa import build_sa, parse_sa


@pytest.fixture(params=("left", "right"))
def steps(request: pytest.FixtureRequest) -> Steps:
    """``a`` initiates the rekey; the original initiator of the first IKE SA is always the left side."""
    return Steps(request.param)


def test_the_messages(steps: Steps) -> None:
    """Section 1.3.2: SK {SA, Ni, KEi} is answered by SK {SA, Nr, KEr}; the SPIs are in the SA payloads (section
    2.18)."""
    (request,) = rekey_ike(steps.a, steps)
    assert types(steps.open(request)) == [Payload.SA, Payload.NONCE, Payload.KE]
    (offer,) = parse_sa(body(steps.open(request), Payload.SA))
    (response,) = steps.deliver(request)
    assert types(steps.open(response)) == [Payload.SA, Payload.NONCE, Payload.KE]
    (answer,) = parse_sa(body(steps.open(response), Payload.SA))
    steps.deliver(response)
    (new,) = live(steps.a).values()
    assert (new.spi_i, new.spi_r) == (offer.spi, answer.spi)
    assert offer.protocol == answer.protocol == Protocol.IKE


def test_the_initiator_of_the_rekey_is_the_new_original_initiator(steps: Steps) -> None:
    """Section 1.3.2: "the initiator in this rekey exchange is the new 'original initiator' of the new IKE SA"; "The
    first IKE requests from both sides on the new IKE SA will have Message ID 0"."""
    steps.pair.queue = rekey_ike(steps.a, steps)
    steps.pair.run()
    (of_a,) = live(steps.a).values()
    (of_b,) = live(steps.b).values()
    assert of_a.initiator
    assert not of_b.initiator
    for side in (steps.a, steps.b):
        (request,) = rekey_child(side, steps, next(sa for sa in side.sas if sa.children).children[0])
        assert request.message_id == 0
        steps.pair.queue = [request]
        steps.pair.run()
    steps.finish()


def test_the_keys(steps: Steps) -> None:
    """Section 2.18: SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr), the rest by section 2.14 with the new SPIs."""
    old = steps.a.sa
    (request,) = rekey_ike(steps.a, steps)
    assert old.exchange is not None
    private = restore_key_exchange(old.exchange.group, old.exchange.private_key)
    ni = old.exchange.nonce
    (response,) = steps.deliver(request)
    payloads = steps.open(response)
    shared = private.shared(parse_ke(body(payloads, Payload.KE))[1])
    steps.deliver(response)
    (new,) = live(steps.a).values()
    sk_d = unpack_record_keys(old.suite, old.keys).sk_d
    nr = body(payloads, Payload.NONCE)
    keys = derive_rekeyed_ike_keys(old.suite, sk_d, new.suite, shared, ni, nr, new.spi_i, new.spi_r)
    assert new.keys == pack_record_keys(keys)


def test_the_prf_may_change() -> None:
    """Section 2.18: "The old and new IKE SA may have selected a different PRF": SKEYSEED by the old, the rest by the
    new."""
    steps = Steps()
    other = (proposal("aes256gcm16-prfsha384-x25519"),)
    for side, make in ((steps.a, left_connection), (steps.b, right_connection)):
        policy = side.policy.__class__((make(proposals=other),))
        side.endpoint.configure(policy, side.endpoint.credentials, steps.now)
    steps.pair.queue = rekey_ike(steps.a, steps)
    steps.finish()
    assert str(steps.a.sa.suite) == "aes256gcm16-prfsha384-x25519"


def test_the_new_ike_sa_inherits(steps: Steps) -> None:
    """Section 2.8: "An IKE SA so created inherits all of the original IKE SA's Child SAs"; what is known about the peer
    stays known."""
    for side in (steps.a, steps.b):
        side.sa.flags |= IkeFlag.FRAGMENTATION
    old = steps.a.sa
    children = old.children
    steps.pair.queue = rekey_ike(steps.a, steps)
    steps.finish()
    new = steps.a.sa
    assert new is not old
    assert new.children == children
    assert new.flags == IkeFlag.FRAGMENTATION | IkeFlag.MESSAGE_ID_SYNC | IkeFlag.REPLAY_COUNTER_SYNC
    assert (new.local, new.remote, new.remote_id, new.connection) == (old.local, old.remote, old.remote_id, "site")


def test_the_delete_is_the_last_request(steps: Steps) -> None:
    """Section 2.8: "the initiator deletes the old IKE SA, and the Delete payload to delete itself MUST be the last
    request sent over the old IKE SA": what waits goes over the new one."""
    old = steps.a.sa
    (request,) = rekey_ike(steps.a, steps)
    assert new_child(steps.a, steps) == []
    (response,) = steps.deliver(request)
    (delete,) = steps.deliver(response)
    assert is_ike_delete(steps, delete)
    assert delete.data[:8] == old.spi_i
    steps.pair.queue = [delete]
    steps.finish()
    last = [packet for packet in steps.pair.sent if packet.data[:8] == old.spi_i and not packet.is_response]
    assert last[-1] == delete
    assert len(steps.a.sa.children) == 2


def test_the_responder_waits_for_the_delete(steps: Steps) -> None:
    """Section 2.8: it is the initiator that deletes the old IKE SA; while that lasts, nothing new starts there."""
    (request,) = rekey_ike(steps.a, steps)
    steps.deliver(request)
    old = next(sa for sa in steps.b.sas if not sa.children)
    assert old.flags & LEAVING
    assert rekey_ike(steps.b, steps, old) == []


def test_half_dead_ike_sas_do_not_stay() -> None:
    """Section 2.8: should the DELETE never come, the replaced IKE SA ends by itself."""
    steps = Steps()
    (request,) = rekey_ike(steps.a, steps)
    (response,) = steps.deliver(request)
    steps.deliver(response)
    gone = steps.a.sas[0]
    steps.a.endpoint.remove_sa(gone)
    steps.a.endpoint.end_step()
    steps.take()
    assert len(steps.b.sas) == 2
    steps.finish()
    assert len(steps.b.sas) == 1


@pytest.mark.parametrize("offer", ["none", "missing"])
def test_no_rekey_without_key_exchange(steps: Steps, offer: str) -> None:
    """Section 2.18: "an initiator MUST NOT propose the value 'NONE' for the Diffie-Hellman transform, and a responder
    MUST NOT accept such a proposal"."""
    transforms = tuple(one for one in IKE_PROPOSAL.transforms if one.type != TransformType.KE)
    if offer == "none":
        transforms = (*transforms, Transform(TransformType.KE, 0))
    sa = build_sa((Proposal(1, Protocol.IKE, bytes(range(8)), transforms),))
    request = steps.forge(steps.a, ExchangeType.CREATE_CHILD_SA, [(Payload.SA, sa), (Payload.NONCE, bytes(32))])
    (response,) = steps.deliver(request)
    assert only_notify(steps.open(response)) == Notify.NO_PROPOSAL_CHOSEN
    assert len(steps.b.sas) == 1


def test_a_rekey_without_ke_payload(steps: Steps) -> None:
    """Section 1.3.2: "The KEi payload MUST be included": without it, INVALID_KE_PAYLOAD names the group."""
    sa = build_sa((Proposal(1, Protocol.IKE, bytes(range(8)), IKE_PROPOSAL.transforms),))
    request = steps.forge(steps.a, ExchangeType.CREATE_CHILD_SA, [(Payload.SA, sa), (Payload.NONCE, bytes(32))])
    (response,) = steps.deliver(request)
    (notify,) = notifies(steps.open(response))
    assert (notify.type, notify.data) == (Notify.INVALID_KE_PAYLOAD, b"\x00\x1f")


def test_an_spi_of_zero(steps: Steps) -> None:
    """Section 3.1: the SPI MUST NOT be zero."""
    sa = build_sa((Proposal(1, Protocol.IKE, bytes(8), IKE_PROPOSAL.transforms),))
    payloads = [(Payload.SA, sa), (Payload.NONCE, bytes(32)), (Payload.KE, build_ke(Group.CURVE25519, bytes(32)))]
    (response,) = steps.deliver(steps.forge(steps.a, ExchangeType.CREATE_CHILD_SA, payloads))
    assert notifies(steps.open(response))[0].type == Notify.INVALID_SYNTAX


def test_another_group_is_asked_for() -> None:
    """Section 1.3: INVALID_KE_PAYLOAD and the retry hold for the IKE SA's rekey as well."""
    steps = Steps()
    both, second = (proposal("aes128gcm16-prfsha256-x25519-ecp256"),), (proposal("aes128gcm16-prfsha256-ecp256"),)
    for side, make, proposals in ((steps.a, left_connection, both), (steps.b, right_connection, second)):
        policy = side.policy.__class__((make(proposals=proposals),))
        side.endpoint.configure(policy, side.endpoint.credentials, steps.now)
    steps.pair.queue = rekey_ike(steps.a, steps)
    steps.finish()
    assert steps.a.sa.suite.group == Group.ECP_256


def test_the_effects_of_a_move_come_in_an_order_that_loses_no_child_sa(steps: Steps) -> None:
    """DESIGN section 3: the new IKE SA's record, with the child SAs, comes before the one of the old that has none."""
    seen = {side.name: len(side.effects) for side in steps.pair.sides}
    steps.pair.queue = rekey_ike(steps.a, steps)
    steps.pair.run()
    for side in steps.pair.sides:
        names = [type(effect).__name__ for effect in side.effects[seen[side.name] :]]
        assert "RemoveChild" not in names
        assert "UpdateChild" in names
        moved = [effect.sa for effect in side.effects[seen[side.name] :] if type(effect).__name__ == "Replicate"]
        assert any(sa.children for sa in moved)


def test_closing_and_rekeying_by_command(steps: Steps) -> None:
    """Section 1.4.1: a DELETE of the IKE SA that was rekeyed a moment ago ends everything."""
    steps.pair.queue = rekey_ike(steps.a, steps)
    steps.pair.run()
    (new,) = live(steps.b).values()
    steps.pair.queue = delete_ike(steps.b, steps, new)
    steps.finish()
    assert steps.a.sas == steps.b.sas == []
