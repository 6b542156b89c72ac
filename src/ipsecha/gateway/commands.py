"""The operator's commands as they arrive over the control socket (``ipsecha.gateway.control``)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
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
from ipsecha.model.errors import ClusterError, PolicyError
from ipsecha.model.records import ChildState, IkeFlag, IkeSa

SWITCHOVER_PATIENCE_S = 5.0
"""A switchover that was asked for has begun and ended by then, or will not."""


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

    def _terminate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._require_owner()
        connection, child = _names(arguments)
        now, endpoint = self._gateway.clock.now(), self._gateway.endpoint
        spi = str(arguments.get("spi", ""))
        if len(spi) == 16:
            count = endpoint.terminate(now, local_spi=self._ike_sa(spi).local_spi)
        elif spi:
            count = endpoint.terminate(now, spi_in=int(spi, 16))
        else:
            self._require_connection(connection)
            count = endpoint.terminate(now, connection=connection, child=child)
        return _outcome(f"terminating {count} SA{'' if count == 1 else 's'}", count)

    def _rekey(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """A connection's IKE SAs, or with ``child`` its child SAs of that name; or one SA by its ``spi``."""
        self._require_owner()
        connection, child = _names(arguments)
        now, endpoint = self._gateway.clock.now(), self._gateway.endpoint
        spi = str(arguments.get("spi", ""))
        if len(spi) == 16:
            endpoint.rekey_ike(self._ike_sa(spi).local_spi, now)
            return _outcome("rekeying 1 IKE SA", 1)
        if spi:
            if int(spi, 16) not in endpoint.child_index:
                raise ControlError("not-found", f"no child SA receives under the SPI {spi}")
            endpoint.rekey_child(int(spi, 16), now)
            return _outcome("rekeying 1 child SA", 1)
        self._require_connection(connection)
        sas = [sa for sa in endpoint.records() if sa.connection == connection and not sa.flags & IkeFlag.REKEYED]
        if not child:
            for sa in sas:
                endpoint.rekey_ike(sa.local_spi, now)
            return _outcome(f"rekeying {len(sas)} IKE SA{'' if len(sas) == 1 else 's'}", len(sas))
        spis = [
            one.spi_in for sa in sas for one in sa.children if one.name == child and one.state == ChildState.ESTABLISHED
        ]
        for spi_in in spis:
            endpoint.rekey_child(spi_in, now)
        return _outcome(f"rekeying {len(spis)} child SA{'' if len(spis) == 1 else 's'}", len(spis))

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
            if member.role is Role.ACTIVE and member.owns == owned:
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

    def _ike_sa(self, spi: str) -> IkeSa:
        wanted = bytes.fromhex(spi)
        for sa in self._gateway.endpoint.records():
            if wanted in (sa.spi_i, sa.spi_r):
                return sa
        raise ControlError("not-found", f"no IKE SA has the SPI {spi}")


def _names(arguments: dict[str, Any]) -> tuple[str, str]:
    return str(arguments.get("connection", "")), str(arguments.get("child") or "")


def _outcome(text: str, affected: int) -> dict[str, Any]:
    return as_answer(OutcomeView(text, affected))
