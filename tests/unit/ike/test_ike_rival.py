"""IKE SAs that another owner has made beside us (``ipsecha.ike.rival``)."""

from __future__ import annotations

import pytest

from ike_pair import Pair, Side, left_connection, right_connection
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.ike.rival import IV_JUMP, LAST_JUMP
from ipsecha.model.effects import InstallChild, Replicate, UpdateChild
from ipsecha.model.leases import LANE
from ipsecha.model.records import IkeSa, decode_record, encode_record

LANES = 12


@pytest.fixture
def pair() -> Pair:
    pair = Pair(left_connection(), right_connection())
    pair.establish()
    return pair


def heir(side: Side) -> IkeEndpoint:
    """The owner that stays, which has never heard of the IKE SAs of ``side``."""
    old = side.endpoint
    endpoint = IkeEndpoint(old.policy, old.credentials, old.entropy, wall_clock=old.wall_clock)
    endpoint.activate(200, 0.0)
    endpoint.take_effects()
    return endpoint


def copy(sa: IkeSa) -> IkeSa:
    return decode_record(encode_record(sa))


def test_it_goes_on_beyond_all_that_its_maker_can_have_used(pair: Pair) -> None:
    endpoint, sa = heir(pair.left), pair.left.sa
    endpoint.inherit([copy(sa)], LANES, pair.now)
    inherited = endpoint.sas[sa.local_spi]
    assert inherited.iv_counter == sa.iv_counter + IV_JUMP
    assert inherited.children[0].out_ceiling == sa.children[0].out_ceiling + LANES * LANE
    assert inherited.children[0].in_ceiling == sa.children[0].in_ceiling
    effects = endpoint.take_effects()
    assert [type(effect) for effect in effects] == [Replicate, InstallChild]


def test_its_peer_notices_nothing(pair: Pair) -> None:
    """A liveness check of the new owner's is answered."""
    side, sa = pair.left, pair.left.sa
    pair.gather()
    side.endpoint = heir(side)
    side.endpoint.inherit([copy(sa)], LANES, pair.now)
    side.endpoint.check_liveness(sa.local_spi, pair.now)
    pair.run()
    assert side.sa.exchange is None
    assert side.sa.next_request_id == pair.right.sa.expected_request_id
    assert "peer-dead" not in side.events


def test_none_is_inherited_twice_though_it_has_ended_meanwhile(pair: Pair) -> None:
    endpoint, sa = heir(pair.left), pair.left.sa
    endpoint.inherit([copy(sa)], LANES, pair.now)
    endpoint.remove_sa(endpoint.sas[sa.local_spi])
    endpoint.inherit([copy(sa)], LANES, pair.now)
    assert not endpoint.sas


def test_what_we_have_is_repaired(pair: Pair) -> None:
    """Both have used it: its maker did not know that we had received it."""
    sa = pair.left.sa
    ceiling = sa.children[0].out_ceiling
    pair.left.endpoint.inherit([copy(sa)], LANES, pair.now)
    assert sa.local_spi in pair.left.endpoint.suspects
    assert sa.children[0].out_ceiling == ceiling


def test_child_sas_of_a_rekeyed_ike_sa_move(pair: Pair) -> None:
    """Both owners may have used them: their ceilings are the higher ones, and they are rekeyed."""
    endpoint, sa = pair.left.endpoint, pair.left.sa
    pair.gather()
    rekeyed, before = copy(sa), sa.children[0].out_ceiling
    rekeyed.spi_i, rekeyed.created_at = bytes(8), pair.now + 1.0
    rekeyed.children[0].out_ceiling += 1000
    endpoint.inherit([rekeyed], LANES, pair.now)
    (child,) = endpoint.sas[bytes(8)].children
    assert child.out_ceiling == before + 1000
    assert not sa.children
    assert endpoint.sas[bytes(8)].queue
    assert any(isinstance(effect, UpdateChild) for effect in endpoint.take_effects())


def test_inbound_spis_of_others_are_not_taken_over(pair: Pair) -> None:
    """A random SPI that both have given, to different peers or with different keys."""
    endpoint, sa = pair.left.endpoint, pair.left.sa
    other = copy(sa)
    other.spi_i = bytes(8)
    other.children[0].keys = bytes(len(other.children[0].keys))
    endpoint.inherit([other], LANES, pair.now)
    assert bytes(8) not in endpoint.sas


def test_no_iv_counter_comes_to_its_end(pair: Pair) -> None:
    endpoint, sa = heir(pair.left), copy(pair.left.sa)
    sa.iv_counter = LAST_JUMP
    endpoint.inherit([sa], LANES, pair.now)
    assert not endpoint.sas
