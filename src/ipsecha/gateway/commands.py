"""The operator's commands as they arrive over the control socket (``ipsecha.gateway.control``)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from ipsecha.cluster.pair import Role
from ipsecha.gateway.config import load_member
from ipsecha.gateway.config_model import LoadedConfig
from ipsecha.gateway.control import ControlError
from ipsecha.gateway.core import Gateway
from ipsecha.gateway.pair_side import PairSide
from ipsecha.gateway.policy_digest import digest_of
from ipsecha.gateway.status import carried_out, sas_view, status_view
from ipsecha.gateway.views import OutcomeView, as_answer
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.ike.flags import REKEYED
from ipsecha.model.errors import ClusterError, PolicyError
from ipsecha.model.records import ChildState

SWITCHOVER_PATIENCE_S = 5.0
"""A switchover that was asked for has begun and ended by then, or will not."""

PAGE = 64
"""IKE SAs that a command works on in one turn of the event loop at most."""
PAGE_S = 0.004
"""A page ends after so long: a key exchange with a large group takes milliseconds."""
PAUSE_S = 0.002
"""Between two pages."""

LOOKED_AT = 1000
"""IKE SAs between two yields, where they are only looked at: some four milliseconds."""


class Commands:
    """Carries out commands; raises ControlError with a reason that the operator can act on."""

    def __init__(self, gateway: Gateway, side: PairSide | None, config: LoadedConfig, stop: Callable[[], None]) -> None:
        self._gateway = gateway
        self._side = side
        self._config = config
        self._stop = stop
        self._started_at = gateway.loop.time()
        self._commands: dict[str, Callable[[dict[str, Any]], dict[str, Any] | Awaitable[dict[str, Any]]]] = {
            "status": self._status,
            "sas": self._sas,
            "initiate": self._initiate,
            "terminate": self._terminate,
            "rekey": self._rekey,
            "switchover": self._switchover,
            "serve-alone": self._serve_alone,
            "reload": self._reload,
            "stop": self._stop_daemon,
        }

    async def __call__(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._commands[command](arguments)
            return await answer if isinstance(answer, Awaitable) else answer
        except (TypeError, ValueError) as error:
            raise ControlError("malformed", f"{command}: {error}") from None
        finally:
            self._gateway.wake()

    async def _status(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return as_answer(await carried_out(status_view(self._gateway, self._side, self._config, self._started_at)))

    async def _sas(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return as_answer(await carried_out(sas_view(self._gateway, arguments)))

    def _initiate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._require_owner()
        connection, child = _names(arguments)
        try:
            self._gateway.endpoint.initiate(connection, child or None, self._gateway.clock.now())
        except PolicyError as error:
            raise ControlError("not-found", str(error)) from None
        return _outcome(f"initiating {connection}{f'/{child}' if child else ''}", 1)

    async def _terminate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._require_owner()
        connection, child = _names(arguments)
        endpoint, now = self._gateway.endpoint, self._gateway.clock.now
        spi = str(arguments.get("spi", ""))
        if len(spi) == 16:
            found = await self._ike_sa(spi)
            count = endpoint.terminate(now(), local_spi=found)
        elif spi:
            count = endpoint.terminate(now(), spi_in=int(spi, 16))
        else:
            self._require_connection(connection)
            if not child:
                endpoint.hold(connection, now())
            count = await self._in_pages(connection, partial(_terminated, endpoint, child))
        return _outcome(f"terminating {count} SA{'' if count == 1 else 's'}", count)

    async def _rekey(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """A connection's IKE SAs, or with ``child`` its child SAs of that name; or one SA by its ``spi``."""
        self._require_owner()
        connection, child = _names(arguments)
        endpoint, now = self._gateway.endpoint, self._gateway.clock.now
        spi = str(arguments.get("spi", ""))
        if len(spi) == 16:
            found = await self._ike_sa(spi)
            endpoint.rekey_ike(found, now())
            return _outcome("rekeying 1 IKE SA", 1)
        if spi:
            if int(spi, 16) not in endpoint.child_index:
                raise ControlError("not-found", f"no child SA receives under the SPI {spi}")
            endpoint.rekey_child(int(spi, 16), now())
            return _outcome("rekeying 1 child SA", 1)
        self._require_connection(connection)
        count = await self._in_pages(connection, partial(_rekeyed, endpoint, child))
        return _outcome(f"rekeying {count} {'child' if child else 'IKE'} SA{'' if count == 1 else 's'}", count)

    async def _in_pages(self, connection: str, act: Callable[[bytes, float], int]) -> int:
        """Do ``act`` to the IKE SAs of a connection; the sum of what it gives.

        Each page is a turn and a commit of its own: packets, heartbeats and the backup have their turns in between.
        Raises ControlError where this member owns the SAs no longer, or the connection is gone.
        """
        gateway = self._gateway
        count, left, until = 0, PAGE, gateway.loop.time() + PAGE_S
        for spi in gateway.endpoint.walk_of(connection):
            count += act(spi, gateway.clock.now())
            left -= 1
            if not left or gateway.loop.time() >= until:
                gateway.wake()
                await asyncio.sleep(PAUSE_S)
                self._require_owner()
                self._require_connection(connection)
                left, until = PAGE, gateway.loop.time() + PAGE_S
        return count

    async def _switchover(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if self._side is None:
            raise ControlError("failed", "no switchover: this is a gateway without a cluster")
        member = self._side.member
        owned = member.owns
        try:
            member.switchover(self._gateway.clock.now())
        except ClusterError as error:
            raise ControlError("failed", str(error)) from None
        self._gateway.wake()
        deadline = self._gateway.loop.time() + SWITCHOVER_PATIENCE_S
        while member.owns == owned:
            await asyncio.sleep(0.01)
            if owned and member.role is Role.ACTIVE:
                raise ControlError("failed", f"{member.partner_name} did not take over: this member goes on")
            if self._gateway.loop.time() > deadline:
                raise ControlError("failed", "nobody has handed over: see the status of the owner")
        return _outcome(f"{member.partner_name if owned else 'this member'} owns the SAs now", 1)

    def _serve_alone(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if self._side is None:
            raise ControlError("failed", "a gateway without a cluster serves alone anyway")
        try:
            self._side.member.serve_alone(self._gateway.clock.now())
        except ClusterError as error:
            raise ControlError("failed", str(error)) from None
        return _outcome("serving alone", 1)

    async def _reload(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Read the files again.  The policy and its secrets take effect at once; what belongs to the member or the
        cluster itself needs a restart, and is refused here rather than ignored."""
        # in a thread: a large policy takes seconds to read, and the partner waits for heartbeats
        fresh = await asyncio.to_thread(load_member, self._config.member.path)
        if (fresh.cluster, fresh.member) != (self._config.cluster, self._config.member):
            raise ControlError("failed", "the member's file or [cluster] has changed: restart the daemon for that")
        self._gateway.endpoint.configure(fresh.policy, fresh.credentials, self._gateway.clock.now())
        self._config = fresh
        if self._side is not None:
            self._side.member.has_read(digest_of(fresh))
            self._gateway.wake()
        # last what the system may refuse: the answer says so, and the next reload tries again
        self._gateway.plane.configure(fresh.policy)
        if self._side is None or self._side.member.owns:
            self._gateway.plane.listen()
        count = len(fresh.policy.connections)
        outcome = OutcomeView(
            f"reloaded: {count} connection{'' if count == 1 else 's'}", count, tuple(map(str, fresh.warnings))
        )
        return as_answer(outcome)

    def _stop_daemon(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._stop()
        return _outcome("stopping", 1)

    def _require_owner(self) -> None:
        if self._side is not None and not (self._side.member.owns and self._gateway.endpoint.active):
            raise ControlError("not-active", f"this member does not own the SAs: ask {self._side.member.partner_name}")
        if self._gateway.divert is not None:
            raise ControlError("not-active", "a switchover is under way: ask again in a moment")

    def _require_connection(self, connection: str) -> None:
        if self._gateway.endpoint.connection_named(connection) is None:
            raise ControlError("not-found", f'no connection "{connection}"')

    async def _ike_sa(self, spi: str) -> bytes:
        """The local SPI of the IKE SA that bears ``spi``, ours or the peer's."""
        wanted, sas = bytes.fromhex(spi), self._gateway.endpoint.sas
        if wanted in sas:
            return wanted
        for number, own in enumerate(sas.walk()):
            if number % LOOKED_AT == LOOKED_AT - 1:
                await asyncio.sleep(0)
                self._require_owner()
            if own in sas and wanted in ((sa := sas.peek(own)).spi_i, sa.spi_r):
                return own
        raise ControlError("not-found", f"no IKE SA has the SPI {spi}")


def _terminated(endpoint: IkeEndpoint, child: str, spi: bytes, now: float) -> int:
    """Delete an IKE SA, or its child SAs of this name; how many."""
    if not child:
        return endpoint.terminate(now, local_spi=spi)
    children = endpoint.sas.peek(spi).children if spi in endpoint.sas else ()
    return sum(endpoint.terminate(now, spi_in=one.spi_in) for one in children if one.name == child)


def _rekeyed(endpoint: IkeEndpoint, child: str, spi: bytes, now: float) -> int:
    """Rekey an IKE SA, or its child SAs of this name; how many."""
    sa = endpoint.sas.peek(spi) if spi in endpoint.sas else None
    if sa is None or sa.flags & REKEYED:
        return 0
    if not child:
        endpoint.rekey_ike(spi, now)
        return 1
    spis = [one.spi_in for one in sa.children if one.name == child and one.state == ChildState.ESTABLISHED]
    for spi_in in spis:
        endpoint.rekey_child(spi_in, now)
    return len(spis)


def _names(arguments: dict[str, Any]) -> tuple[str, str]:
    return str(arguments.get("connection", "")), str(arguments.get("child") or "")


def _outcome(text: str, affected: int) -> dict[str, Any]:
    return as_answer(OutcomeView(text, affected))
