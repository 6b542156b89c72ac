"""``ipsecha switchover``: the answer comes when it is over, whichever way it ends."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipsecha.cluster.pair import Role
from ipsecha.gateway import commands
from ipsecha.gateway.control import ControlError
from ipsecha.model.errors import ClusterError


class Member:
    """Once asked, it becomes each of ``roles`` in turn, in a moment each."""

    partner_name = "beta"

    def __init__(self, role: Role, *roles: Role) -> None:
        self.role, self.roles = role, roles

    @property
    def owns(self) -> bool:
        return self.role in (Role.ACTIVE, Role.HANDING_OVER)

    def switchover(self, now: float) -> None:
        if not self.roles:
            raise ClusterError("no switchover: the synch channel to the partner is down")
        if self.role is Role.ACTIVE:
            self.role = Role.HANDING_OVER
        for number, role in enumerate(self.roles):
            asyncio.get_running_loop().call_later(0.02 * (number + 1), setattr, self, "role", role)


class _Clock:
    @staticmethod
    def now() -> float:
        return 0.0


def _nothing() -> None:
    """There is nobody to be woken or stopped."""


def _answer(member: Member) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        gateway: Any = SimpleNamespace(loop=asyncio.get_running_loop(), clock=_Clock, wake=_nothing)
        side: Any = SimpleNamespace(member=member)
        return await commands.Commands(gateway, side, cast(Any, None), _nothing)("switchover", {})

    return asyncio.run(ask())


def test_an_owner_that_was_asked_says_when_the_other_one_owns() -> None:
    assert _answer(Member(Role.ACTIVE, Role.STANDBY))["text"] == "beta owns the SAs now"


def test_a_backup_that_was_asked_says_when_it_owns() -> None:
    assert _answer(Member(Role.STANDBY, Role.ACTIVE))["text"] == "this member owns the SAs now"


def test_one_that_comes_to_nothing_has_failed() -> None:
    with pytest.raises(ControlError, match="beta did not take over: this member goes on"):
        _answer(Member(Role.ACTIVE, Role.ACTIVE))


def test_one_that_is_refused_has_failed() -> None:
    with pytest.raises(ControlError, match="the synch channel to the partner is down"):
        _answer(Member(Role.ACTIVE))


def test_an_owner_that_does_not_heed_its_backup_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "SWITCHOVER_PATIENCE_S", 0.05)
    with pytest.raises(ControlError, match="nobody has handed over"):
        _answer(Member(Role.STANDBY, Role.STANDBY))
