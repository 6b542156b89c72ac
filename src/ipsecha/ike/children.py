"""Child SAs as members of an IKE SA: made from a suite and keys, installed, removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ipsecha.ike.flags import ENCAPSULATE
from ipsecha.model.effects import InstallChild, RemoveChild, UpdateChild
from ipsecha.model.errors import PeerError
from ipsecha.model.leases import FIRST_IN_CEILING, FIRST_OUT_CEILING
from ipsecha.model.numbers import Notify, Protocol
from ipsecha.model.policy import ChildPolicy, Connection
from ipsecha.model.proposals import ChildSuite
from ipsecha.model.records import ChildSa, IkeSa
from ipsecha.model.selectors import TrafficSelector, all_covered, narrow

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint


def check_path(suite: ChildSuite, flags: int) -> None:
    """Raises PeerError(NO_PROPOSAL_CHOSEN) for AH where a NAT is on the path: it changes what AH authenticates (RFC
    4302 section 3.3.3), and there is no encapsulation for AH."""
    if suite.protocol == Protocol.AH and flags & ENCAPSULATE:
        raise PeerError(Notify.NO_PROPOSAL_CHOSEN, "AH cannot cross a NAT: use ESP")


def protocol_of(policy: ChildPolicy | None) -> int:
    """The security protocol of a child's proposals, all of which have the same; ESP where the child is unknown."""
    return policy.proposals[0].protocol if policy is not None and policy.proposals else Protocol.ESP


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
    endpoint.failures.pop(sa.connection, None)
    endpoint.after_takeover.made(child.spi_in)
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


def use_outbound(endpoint: IkeEndpoint, sa: IkeSa, child: ChildSa, use: bool) -> None:
    """Let the data plane send on ``child``, or stop it; inbound is not touched."""
    if child.use_outbound != use:
        child.use_outbound = use
        endpoint.touch(sa)
        endpoint.emit(UpdateChild(sa, child))


class Narrowed(NamedTuple):
    """The responder's choice; ``more``: other selectors of the offer would do too, but only in a separate SA."""

    policy: ChildPolicy
    local_ts: tuple[TrafficSelector, ...]
    remote_ts: tuple[TrafficSelector, ...]
    more: bool


def narrow_offer(
    connection: Connection, remote_offer: tuple[TrafficSelector, ...], local_offer: tuple[TrafficSelector, ...]
) -> Narrowed | None:
    """The responder's choice for a new child SA (RFC 7296 section 2.9), or None: TS_UNACCEPTABLE.

    ``remote_offer`` is TSi, ``local_offer`` TSr.  A policy that accepts the first selectors of both (those of the
    packet that made the peer ask) is chosen before all others; else the first that has anything in common with both.
    """
    found: list[Narrowed] = []
    chosen: Narrowed | None = None
    for policy in connection.children:
        local, remote = narrow(local_offer, policy.local_ts), narrow(remote_offer, policy.remote_ts)
        if not local or not remote:
            continue
        found.append(Narrowed(policy, local, remote, False))
        first_fits = all_covered(local_offer[:1], policy.local_ts) and all_covered(remote_offer[:1], policy.remote_ts)
        if chosen is None and first_fits:
            chosen = found[-1]
    if not found:
        return None
    chosen = chosen or found[0]
    whole = all_covered(local_offer, chosen.local_ts) and all_covered(remote_offer, chosen.remote_ts)
    return chosen if whole or len(found) == 1 else chosen._replace(more=True)


def narrow_rekey(
    policy: ChildPolicy,
    old: ChildSa,
    remote_offer: tuple[TrafficSelector, ...],
    local_offer: tuple[TrafficSelector, ...],
) -> Narrowed:
    """The responder's choice for the rekey of ``old``: never narrower than the scope in use (section 2.9.2).

    Raises PeerError(TS_UNACCEPTABLE) where the offer or our policy has become narrower than that.
    """
    local, remote = narrow(local_offer, policy.local_ts), narrow(remote_offer, policy.remote_ts)
    if not all_covered(old.local_ts, local) or not all_covered(old.remote_ts, remote):
        raise PeerError(Notify.TS_UNACCEPTABLE, f"the rekey of child {old.name!r} would narrow its selectors")
    return Narrowed(policy, local, remote, False)


def offer_selectors(
    policy: ChildPolicy, old: ChildSa | None, packet: tuple[TrafficSelector, ...]
) -> tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]]:
    """What we propose as (local, remote): the policy's selectors, in a new child SA behind those of the ``packet``
    that wants it; in a rekey no packet, and never less than ``old`` has (sections 2.9 and 2.9.2)."""
    local, remote = policy.local_ts, policy.remote_ts
    if old is not None:
        wide = all_covered(old.local_ts, local) and all_covered(old.remote_ts, remote)
        return (local, remote) if wide else (old.local_ts, old.remote_ts)
    if len(packet) == 2 and packet[0] not in local and packet[1] not in remote:
        return (packet[0], *local), (packet[1], *remote)
    return local, remote


def check_answer(
    offered: tuple[TrafficSelector, ...], answer: tuple[TrafficSelector, ...], in_use: tuple[TrafficSelector, ...] = ()
) -> None:
    """The initiator's check of one side's selectors: a subset of the offer, and not less than a rekeyed child SA has.

    Raises PeerError(TS_UNACCEPTABLE).
    """
    if not answer or not all_covered(answer, offered):
        raise PeerError(Notify.TS_UNACCEPTABLE, "the peer's selectors are not a subset of ours")
    if not all_covered(in_use, answer):
        raise PeerError(Notify.TS_UNACCEPTABLE, "the peer has narrowed the selectors in a rekey")
