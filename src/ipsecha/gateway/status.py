"""What the daemon says of itself: the views of ``status`` and ``sas``, made from the live objects.

With 100,000 SAs that is more than may be done in one turn of the event loop.  So the views are generators: they yield
where packets may have their turn, and return the view (``carried_out`` goes on with them).
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

import msgspec

from ipsecha import __version__
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.pair import PairMember, Role
from ipsecha.cluster.seating import SeatedMember
from ipsecha.gateway.config_model import LoadedConfig
from ipsecha.gateway.core import Gateway
from ipsecha.gateway.exposure import Exposures, exposure_s, gap_view
from ipsecha.gateway.pair_side import PairSide
from ipsecha.gateway.views import (
    ChildView,
    ClusterView,
    LeaseView,
    MirrorView,
    SasView,
    SaView,
    SharingView,
    StatusView,
)
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.model.numbers import Protocol
from ipsecha.model.records import Address, ChildSa, ChildState, IkeFlag, IkeSa

View = TypeVar("View")
Steps = Generator[None, None, View]

PAGE = 500
"""IKE SAs in one answer of ``sas`` at most."""

_IN_USE, _SORTED, _SKIPPED, _SHOWN = 500, 4000, 4000, 50
"""Child SAs in use, and IKE SAs, between two yields: some two milliseconds."""


async def carried_out(steps: Steps[View]) -> View:
    """The view; between its steps the event loop does what else there is."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            view: View = end.value
            return view
        await asyncio.sleep(0)


def status_view(gateway: Gateway, side: PairSide | None, config: LoadedConfig, started_at: float) -> Steps[StatusView]:
    """The whole gateway at a glance.  Walks over the child SAs in use once, for their sums and the bound on loss."""
    endpoint = gateway.endpoint
    view = StatusView(
        member=config.member.name,
        version=__version__,
        uptime_s=gateway.loop.time() - started_at,
        half_open=len(endpoint.half_open),
    )
    exposures = Exposures()
    for number, spi_in in enumerate(gateway.plane.spis_in_use()):
        if number % _IN_USE == _IN_USE - 1:
            yield
        traffic = gateway.plane.traffic(spi_in)
        if traffic is None:
            continue
        view.packets_in += traffic.packets_in
        view.bytes_in += traffic.bytes_in
        view.packets_out += traffic.packets_out
        view.bytes_out += traffic.bytes_out
        exposures.add(traffic)
    view.ike_sas, view.child_sas = len(endpoint.sas) - len(endpoint.closed), gateway.plane.count()
    view.counters = _counters(gateway, side)
    if side is not None:
        assert config.cluster is not None
        view.loss_bound = exposures.bound
        view.after_takeover = exposures.after_takeover(endpoint)
        view.cluster = _cluster_view(gateway, side, config)
    return view


def _cluster_view(gateway: Gateway, side: PairSide, config: LoadedConfig) -> ClusterView:
    member, cluster = side.member, config.cluster
    assert cluster is not None
    log = member.log
    return ClusterView(
        name=cluster.name,
        mode=cluster.mode.value,
        role=member.role.value,
        epoch=member.epoch,
        protection=protection(member),
        partner=member.partner_name,
        partner_state=_partner_state(member),
        last_beat_s=member.listener.missed * member.settings.heartbeat_s if member.partner is not None else None,
        sync_progress=log.snapshot_sent / max(1, log.snapshot_total) if log.backup is BackupState.JOINING else None,
        sync_lag=log.outstanding,
        sync_lag_s=log.oldest_age(gateway.clock.now()) if log.outstanding else 0.0,
        commit=cluster.commit.value,
        acks=cluster.acks.value if len(cluster.members) > 2 else "",
        mirrors=_mirrors(member),
        open_sas=gateway.output.open_sas,
        suspects=len(gateway.endpoint.suspects) if member.owns else 0,
        fencing=_fencing(member),
        addresses=tuple(f"{one.address}/{one.prefix_length}" for one in cluster.addresses),
        holds_addresses=side.holds_addresses,
        half_open=sharing_view(gateway.endpoint, gateway.clock.now()),
        policies={None: "", False: "the same", True: "different"}[member.policies_differ],
        saved=side.state_file.state if side.state_file is not None else "",
    )


def _mirrors(member: PairMember) -> tuple[MirrorView, ...]:
    """Of an owner: the members without a seat."""
    if not isinstance(member, SeatedMember) or not member.owns:
        return ()
    views = []
    for other in member.others.values():
        if other.index == member.partner_index and member.log.backup is not BackupState.ABSENT:
            continue
        log = other.source.log
        joining = log.backup is BackupState.JOINING
        state = log.backup.value if other.channel_is_up else "dead" if other.is_dead else "unreachable"
        progress = log.snapshot_sent / max(1, log.snapshot_total) if joining else None
        views.append(MirrorView(member.settings.members[other.index], state, progress, log.outstanding))
    return tuple(views)


def sharing_view(endpoint: IkeEndpoint, now: float) -> SharingView:
    sharing, counters = endpoint.sharing, endpoint.counters
    return SharingView(
        shared=counters.get("half-open-shared", 0),
        withheld=counters.get("half-open-withheld", 0),
        octets=counters.get("half-open-shared-octets", 0),
        continued=counters.get("half-open-continued", 0),
        held=sharing.held(now) if endpoint.active else len(endpoint.held_half_opens),
        per_s=sharing.rate,
        used=sharing.used(now),
    )


def protection(member: PairMember) -> str:
    """Whether a failover at this moment would keep the SAs, in a word that scripts may compare."""
    if member.role is Role.STANDBY:
        return "joining" if not member.in_sync else "protected" if member.channel_is_up else "reconnecting"
    if not member.owns:
        return _protection_by_copy(member)
    if member.log.backup is BackupState.IN_SYNC:
        return "protected" if member.channel_is_up else "reconnecting"
    if member.log.backup is BackupState.JOINING:
        return "joining"
    if member.alone_by_vote:
        return "unprotected (vote)"
    return "unprotected (proof)" if member.alone_by_proof else "unprotected (silence)"


def _protection_by_copy(member: PairMember) -> str:
    """A mirror's copy protects once it has a seat."""
    if not isinstance(member, SeatedMember) or member.following is None:
        return "none"
    return "mirror" if member.complete else "joining"


def _fencing(member: PairMember) -> str:
    if member.witness is None:
        return "pair, no witness"
    return "pair with witness" if member.witness.connected else "pair with witness, which cannot be reached"


def _partner_state(member: PairMember) -> str:
    if member.channel_is_up or (isinstance(member, SeatedMember) and member.following is not None):
        return "connected"
    if member.partner is None:
        return "unknown"
    if member.alone_by_proof:
        return "refused"
    return "silent" if member.listener.silent else "unreachable"


def _counters(gateway: Gateway, side: PairSide | None) -> dict[str, int]:
    counters = {name: count for name, count in gateway.endpoint.counters.items() if count}
    plane: dict[str, int] = msgspec.structs.asdict(gateway.plane.counters)
    counters |= {f"esp-{name.replace('_', '-')}": count for name, count in plane.items() if count}
    counters |= {name: count for name, count in gateway.plane.device_counters().items() if count}
    if gateway.faults.count:
        counters["faults"] = gateway.faults.count
    if side is not None:
        cluster = side.member.counters + side.counters
        cluster["refused beats"] = side.member.listener.refused + side.beats.foreign
        cluster["refused connections"] = side.channel.refused_peers
        counters |= {f"cluster-{name.replace(' ', '-')}": count for name, count in cluster.items() if count}
        channel = side.channel
        counters |= {
            "channel-frames-out": channel.frames_sent,
            "channel-bytes-out": channel.bytes_sent,
            "channel-frames-in": channel.frames_received,
            "channel-bytes-in": channel.bytes_received,
        }
    return counters


def sas_view(gateway: Gateway, arguments: dict[str, Any]) -> Steps[SasView]:
    """One page of IKE SAs with their children; ``connection``, ``offset`` and ``limit`` (at most PAGE) narrow it."""
    endpoint, wanted = gateway.endpoint, str(arguments.get("connection") or "")
    offset, limit = max(0, int(arguments.get("offset", 0))), min(max(0, int(arguments.get("limit", PAGE))), PAGE)
    # records of closed IKE SAs stay for a while, to repeat their last answer; nobody wants to see them
    found = [spi for spi in (endpoint.spis_of(wanted) if wanted else endpoint.sas) if spi not in endpoint.closed]
    yield
    page = yield from _page(found, offset, limit)
    now = gateway.clock.now()
    views: list[SaView] = []
    for number, spi in enumerate(page):
        if number % _SHOWN == _SHOWN - 1:
            yield
        if spi in endpoint.sas:
            views.append(_sa_view(gateway, endpoint.sas.peek(spi), now))
    return SasView(tuple(views), len(found))


def _page(spis: list[bytes], offset: int, limit: int) -> Steps[list[bytes]]:
    """``sorted(spis)[offset : offset + limit]``."""
    runs: list[list[bytes]] = []
    for start in range(0, len(spis), _SORTED):
        runs.append(sorted(spis[start : start + _SORTED]))
        yield
    in_order: Iterator[bytes] = heapq.merge(*runs)
    page: list[bytes] = []
    for number, spi in enumerate(in_order):
        if len(page) == limit:
            break
        if number >= offset:
            page.append(spi)
        if number % _SKIPPED == _SKIPPED - 1:
            yield
    return page


def _sa_view(gateway: Gateway, sa: IkeSa, now: float) -> SaView:
    nat = bool(sa.flags & IkeFlag.LOCAL_NAT), bool(sa.flags & IkeFlag.REMOTE_NAT)
    return SaView(
        connection=sa.connection,
        state="closing" if sa.flags & IkeFlag.CLOSING else "rekeyed" if sa.flags & IkeFlag.REKEYED else "established",
        initiator=sa.initiator,
        spi_i=sa.spi_i.hex(),
        spi_r=sa.spi_r.hex(),
        local_id=str(sa.local_id),
        remote_id=str(sa.remote_id),
        local=_address(sa.local),
        remote=_address(sa.remote),
        nat={(False, False): "", (True, False): "local", (False, True): "remote"}.get(nat, "both"),
        suite=str(sa.suite),
        age_s=now - sa.created_at,
        rekey_in_s=sa.rekey_at - now if sa.rekey_at else None,
        next_request_id=sa.next_request_id,
        expected_request_id=sa.expected_request_id,
        children=tuple(_child_view(gateway, child, now) for child in sa.children),
    )


def _child_view(gateway: Gateway, child: ChildSa, now: float) -> ChildView:
    view = ChildView(
        name=child.name,
        state=ChildState(child.state).name.lower(),
        spi_in=f"{child.spi_in:08x}",
        spi_out=f"{child.spi_out:08x}",
        protocol=Protocol(child.suite.protocol).name,
        suite=str(child.suite),
        local_ts=tuple(map(str, child.local_ts)),
        remote_ts=tuple(map(str, child.remote_ts)),
        age_s=now - child.created_at,
        rekey_in_s=child.rekey_at - now if child.rekey_at else None,
    )
    traffic = gateway.plane.traffic(child.spi_in)
    if traffic is not None:
        view.packets_in, view.bytes_in = traffic.packets_in, traffic.bytes_in
        view.packets_out, view.bytes_out = traffic.packets_out, traffic.bytes_out
        last = max(traffic.last_in, traffic.last_out)
        view.idle_s = now - last if last else None
        if gateway.cluster is not None:
            view.lease = LeaseView(
                in_next=traffic.in_number + 1,
                in_ceiling=traffic.in_ceiling,
                out_next=traffic.out_number + 1,
                out_ceiling=traffic.out_ceiling,
                exposure=traffic.in_gap,
                exposure_s=exposure_s(traffic),
                gap=gap_view(traffic, now),
            )
    return view


def _address(address: Address) -> str:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{host}:{address[1]}"
