"""``ipsecha sas`` for people: a block for each IKE SA, a row for each child SA.

In a child's row the first line is inbound and the second outbound, in every column that has both.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ipsecha.cli.quantities import counted, due, grouped, lasting, octets, scaled
from ipsecha.gateway.views import ChildView, GapView, LeaseView, SasView, SaView

_STATES = {"established": "green", "rekeyed": "dim", "rekeying": "yellow", "deleting": "yellow", "closing": "yellow"}


def sas_renderable(view: SasView, offset: int = 0) -> RenderableType:
    if not view.sas:
        return Text("no IKE SA" if not view.total else f"no IKE SA beyond number {view.total}")
    parts: list[RenderableType] = []
    for sa in view.sas:
        parts += [_headline(sa), Padding(_facts(sa), (0, 0, 0, 2))]
        if sa.children:
            parts.append(Padding(_children(sa.children), (0, 0, 0, 2)))
            if any(child.lease is not None for child in sa.children):
                parts.append(Padding(_failovers(sa.children), (0, 0, 0, 2)))
        else:
            parts.append(Text("  no child SA", style="yellow"))
        parts.append(Text())
    shown = len(view.sas)
    if shown < view.total:
        parts.append(Text(f"IKE SAs {offset + 1} to {offset + shown} of {grouped(view.total)}: see --limit, --offset"))
    else:
        parts.pop()
    return Group(*parts)


def _headline(sa: SaView) -> RenderableType:
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column(ratio=1)
    line.add_column(justify="right", no_wrap=True)
    title = Text(sa.connection, style="bold").append("  ").append(sa.state, style=_STATES.get(sa.state, "none"))
    line.add_row(title, Text(f"age {lasting(sa.age_s)}, rekey {due(sa.rekey_in_s)}", style="dim"))
    return line


def _facts(sa: SaView) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for side, identity, address in (("local", sa.local_id, sa.local), ("remote", sa.remote_id, sa.remote)):
        nat = ", behind a NAT" if sa.nat in (side, "both") else ""
        table.add_row(side, f"{identity}  {address}{nat}")
    table.add_row("IKE", f"{sa.suite}, {'initiator' if sa.initiator else 'responder'}")
    suites: dict[str, dict[str, None]] = {}
    for child in sa.children:
        if child.suite:
            suites.setdefault(child.protocol, {})[child.suite] = None
    for protocol, names in suites.items():
        table.add_row(protocol, ", ".join(names))
    table.add_row("SPIs", Text.assemble(sa.spi_i, ("_i  ", "dim"), sa.spi_r, ("_r", "dim")))
    table.add_row("messages", f"our next ID is {sa.next_request_id}, the peer's is {sa.expected_request_id}")
    return table


def _children(children: tuple[ChildView, ...]) -> RenderableType:
    leased = any(child.lease is not None for child in children)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("child", overflow="fold", min_width=6)
    table.add_column("local\nremote", overflow="fold", min_width=11)
    table.add_column("SPI in\nSPI out", no_wrap=True)
    table.add_column("packets", justify="right", no_wrap=True)
    table.add_column("octets", justify="right", no_wrap=True)
    if leased:
        table.add_column("next", justify="right", no_wrap=True)
        table.add_column("leased", justify="right", no_wrap=True)
    table.add_column("rekey in", justify="right", no_wrap=True)
    for child in children:
        cells: list[RenderableType] = [
            _name(child),
            Text("\n".join((*child.local_ts, *child.remote_ts))),
            Text(f"{child.spi_in}\n{child.spi_out}"),
            Text(_compact(f"{scaled(child.packets_in)}\n{scaled(child.packets_out)}")),
            Text(_compact(f"{octets(child.bytes_in)}\n{octets(child.bytes_out)}")),
        ]
        if leased:
            cells += _lease(child.lease)
        cells.append(Text("never" if child.rekey_in_s is None else lasting(max(0.0, child.rekey_in_s))))
        table.add_row(*cells)
    return table


def _name(child: ChildView) -> Text:
    """The name, and a state that is not the usual one."""
    text = Text(child.name, style="bold")
    if child.state != "established":
        text.append(f"\n{child.state}", style=_STATES.get(child.state, "red"))
    return text


def _compact(text: str) -> str:
    """Columns of numbers stand close together: no blank within one."""
    return text.replace(" ", "")


def _lease(lease: LeaseView | None) -> list[RenderableType]:
    """The next sequence number, and how many from there on are leased: what a failover would skip."""
    if lease is None:
        return [Text("-"), Text("-")]
    ahead_in = max(0, lease.in_ceiling - lease.in_next + 1)
    ahead_out = max(0, lease.out_ceiling - lease.out_next + 1)
    return [
        Text(_compact(f"{scaled(lease.in_next)}\n{scaled(lease.out_next)}")),
        Text(_compact(f"+{scaled(ahead_in)}\n+{scaled(ahead_out)}")),
    ]


def _failovers(children: tuple[ChildView, ...]) -> RenderableType:
    """What a failover now would lose of each inbound SA at most, and what the last one did lose."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for child in children:
        if child.lease is not None:
            table.add_row(child.spi_in, _exposed(child.lease).append(_gap(child.lease.gap)))
    return table


def _exposed(lease: LeaseView) -> Text:
    if not lease.exposure:
        return Text("a failover now loses nothing")
    text = Text(f"a failover now loses at most {counted(lease.exposure, 'packet')}")
    return text if lease.exposure_s is None else text.append(f", {lasting(lease.exposure_s)} of traffic")


def _gap(gap: GapView | None) -> Text:
    if gap is None:
        return Text()
    if gap.learnt:
        return Text("; after the last one the window was learnt: replays were possible", style="yellow")
    refused = f"; the last one: {counted(gap.refused, 'packet')} refused"
    if gap.closed_s is None:
        return Text(f"{refused}, up to {grouped(gap.remaining)} more to come", style="yellow")
    return Text(f"{refused}, closed {lasting(gap.closed_s)} ago")
