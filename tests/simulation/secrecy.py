"""I6: what gateways must keep to themselves is looked for in all that leaves them: datagrams, reports, log lines, what
the operator is shown, and how things describe themselves.  Frames between the members are not looked at: they travel
inside TLS.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from in_steps import completed
from ipsecha.gateway.status import sas_view
from ipsecha.model.effects import Report
from ipsecha.model.records import IkeSa
from needles import Needles, parts

if TYPE_CHECKING:
    from simulation.gateways import Node
    from simulation.world import World


class _Lines(logging.Handler):
    """Log lines, whatever their level."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.add(f"{record.getMessage()} {record.args!r} {record.exc_text}")


class Secrecy:
    """Knows every key that the gateways of a world have had, and what has left them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._secrets: dict[bytes, str] = {}
        self.datagrams: list[bytes] = []
        self._texts: set[str] = set()
        self._log = logging.getLogger("ipsecha")
        self._level, self._lines = self._log.level, _Lines()
        self._log.addHandler(self._lines)
        self._log.setLevel(logging.DEBUG)

    def close(self) -> None:
        self._log.removeHandler(self._lines)
        self._log.setLevel(self._level)

    def told(self, node: Node, report: Report) -> None:
        """A gateway reports something: an occasion to look at what it knows by now."""
        self._texts.add(report.text)
        self._learn(node)

    def _learn(self, node: Node) -> None:
        for sa in node.endpoint.sas.values():
            for name, secret in _keys(sa):
                self._secrets[secret] = name
            self._texts.update((repr(sa), repr(sa.exchange), *map(repr, sa.children)))

    def _show(self, node: Node) -> None:
        """All that a gateway shows of itself."""
        self._learn(node)
        self._texts.update(map(repr, (node.gateway, node.endpoint, node.endpoint.credentials, node.plane)))
        self._texts.add(repr(msgspec.to_builtins(completed(sas_view(node.gateway, {})))))

    def judge(self) -> None:
        """Raise a violation where a stretch of a key is anywhere."""
        for node in (*self._world.members, *self._world.peers):
            self._show(node)
        needles, sent = Needles(), b"\n".join(self.datagrams)
        for name, secret in self._world.credentials():
            self._secrets[secret] = name
        for secret, name in self._secrets.items():
            needles.add(name, secret)
            if any(part in sent for part in parts(secret)):
                self._world.record.violation("I6", f"{name} in a datagram")
        for name in needles.found([*self._texts, *self._lines.lines]):
            self._world.record.violation("I6", f"{name} in a report, a log line, or what is shown")


def _keys(sa: IkeSa) -> Iterator[tuple[str, bytes]]:
    yield f"SK_* of {sa.connection}", sa.keys
    if sa.exchange is not None and sa.exchange.private_key:
        yield f"the private key of an exchange of {sa.connection}", sa.exchange.private_key
    for child in sa.children:
        yield f"keys of a child SA of {sa.connection}", child.keys
