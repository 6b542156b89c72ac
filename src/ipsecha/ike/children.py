"""Child SAs as members of an IKE SA: made from a suite and keys, installed, removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.model.effects import InstallChild, RemoveChild
from ipsecha.model.leases import FIRST_IN_CEILING, FIRST_OUT_CEILING
from ipsecha.model.policy import ChildPolicy, Connection
from ipsecha.model.proposals import ChildSuite
from ipsecha.model.records import ChildSa, IkeSa
from ipsecha.model.selectors import TrafficSelector, narrow

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint


def make(
    endpoint: IkeEndpoint,
    policy: ChildPolicy,
    spi_in: int,
    spi_out: int,
    suite: ChildSuite,
    keys: tuple[bytes, bytes],
    initiator: bool,
    local_ts: tuple[TrafficSelector, ...],
    remote_ts: tuple[TrafficSelector, ...],
    now: float,
) -> ChildSa:
    """A child SA from what was negotiated; not yet installed.

    ``keys`` is (initiator to responder, responder to initiator) of ``crypto.key_derivation.derive_child_keys``;
    ``initiator`` says whether we initiated the exchange that makes this child SA (RFC 7296 section 2.17).
    """
    inbound, outbound = (keys[1], keys[0]) if initiator else keys
    rekey_at = now + endpoint.jittered(policy.rekey_s) if policy.rekey_s else 0.0
    return ChildSa(
        name=policy.name,
        spi_in=spi_in,
        spi_out=spi_out,
        suite=suite,
        keys=inbound + outbound,
        local_ts=local_ts,
        remote_ts=remote_ts,
        created_at=now,
        rekey_at=rekey_at,
        expires_at=now + policy.life_s,
        in_ceiling=FIRST_IN_CEILING,
        out_ceiling=FIRST_OUT_CEILING,
    )


def install(endpoint: IkeEndpoint, sa: IkeSa, child: ChildSa) -> None:
    """Add ``child`` to the IKE SA, the index and the data plane."""
    sa.children = (*sa.children, child)
    endpoint.child_index[child.spi_in] = sa.local_spi
    endpoint.touch(sa)
    endpoint.emit(InstallChild(sa, child))
    endpoint.rearm(sa)


def remove(endpoint: IkeEndpoint, sa: IkeSa, child: ChildSa) -> None:
    """Take ``child`` from the IKE SA, the index and the data plane; one that must always be up is planned anew."""
    sa.children = tuple(other for other in sa.children if other is not child)
    endpoint.child_index.pop(child.spi_in, None)
    endpoint.touch(sa)
    endpoint.emit(RemoveChild(child.spi_in))
    endpoint.child_lost(sa, child.name)


def match(
    connection: Connection, remote_offer: tuple[TrafficSelector, ...], local_offer: tuple[TrafficSelector, ...]
) -> tuple[ChildPolicy, tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]] | None:
    """The responder's choice (RFC 7296 section 2.9): the first child policy that has something in common with the
    offer (``remote_offer`` is TSi, ``local_offer`` TSr), and the narrowed (local, remote) selectors; or None."""
    for policy in connection.children:
        local, remote = narrow(local_offer, policy.local_ts), narrow(remote_offer, policy.remote_ts)
        if local and remote:
            return policy, local, remote
    return None
