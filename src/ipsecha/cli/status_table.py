"""``ipsecha status`` for people."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ipsecha.cli.quantities import counted, grouped, lasting, octets, scaled
from ipsecha.gateway.views import AfterTakeoverView, ClusterView, MirrorView, SharingView, StatusView

_GOOD, _FAIR, _BAD = "bold green", "bold yellow", "bold red"
_MAX_COUNTERS = 40
_SAVED = ("complete", "being written", "marker")


def is_protected(view: StatusView) -> bool:
    """Whether a failover at this moment would keep the tunnels, as this member knows it.  A single gateway never is."""
    return view.cluster is not None and view.cluster.protection in ("protected", "mirror")


def status_renderable(view: StatusView) -> RenderableType:
    parts: list[RenderableType] = [_headline(view), _facts(view)]
    if view.counters:
        parts += [Text(), Text("Counters", style="bold"), _counters(view.counters)]
    return Group(*parts)


def _headline(view: StatusView) -> RenderableType:
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column(ratio=1)
    line.add_column(justify="right", no_wrap=True)
    title = Text(view.member or "?", style="bold")
    if view.cluster is None:
        title.append(" · single gateway", style="none")
    else:
        title.append(" · ").append(view.cluster.role or "?", style=_role_style(view.cluster.role))
        title.append(" · ").append(view.cluster.protection or "?", style=_protection_style(view.cluster))
    line.add_row(title, Text(f"ipsecha {view.version}, up {lasting(view.uptime_s)}", style="dim"))
    return line


def _role_style(role: str) -> str:
    return {"active": _GOOD, "standby": "bold cyan", "mirror": "bold cyan"}.get(role, _FAIR)


def _protection_style(cluster: ClusterView) -> str:
    if cluster.protection == "protected":
        return _GOOD
    return _FAIR if cluster.protection in ("joining", "reconnecting", "mirror") else _BAD


def _facts(view: StatusView) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    if view.cluster is not None:
        for name, value in _cluster_facts(view.cluster):
            table.add_row(f"  {name}", value)
    if view.loss_bound is not None:
        bound = view.loss_bound
        most = counted(bound.packets, "packet")
        text = f"an SA would lose at most {most} inbound"
        text += f" ({lasting(bound.seconds)} of traffic)" if bound.seconds else ""
        table.add_row("  failover now", text if bound.packets else "no SA would lose a packet to its lease")
    if view.after_takeover is not None:
        for name, value in _after_takeover(view.after_takeover):
            table.add_row(f"  {name}", value)
    half_open = f", {view.half_open} half-open" if view.half_open else ""
    table.add_row("  tunnels", f"{counted(view.ike_sas, 'IKE SA')}{half_open}, {counted(view.child_sas, 'child SA')}")
    table.add_row("  inbound", f"{scaled(view.packets_in)} packets, {octets(view.bytes_in)}")
    table.add_row("  outbound", f"{scaled(view.packets_out)} packets, {octets(view.bytes_out)}")
    return table


def _cluster_facts(cluster: ClusterView) -> list[tuple[str, Text | str]]:
    partner = Text(cluster.partner or "?")
    partner.append(", ").append(cluster.partner_state or "?", style=_GOOD if _is_there(cluster) else _BAD)
    if cluster.last_beat_s is not None:
        partner.append(f", last beat {lasting(cluster.last_beat_s)} ago")
    lag = f"{counted(cluster.sync_lag, 'commit')}, {lasting(cluster.sync_lag_s)}" if cluster.sync_lag else "none"
    facts: list[tuple[str, Text | str]] = [
        ("cluster", f"{cluster.name} ({cluster.mode}), epoch {cluster.epoch}"),
        ("partner", partner),
        ("sync lag", lag),
    ]
    if cluster.commit == "lazy":
        facts.append(("commit", f"lazy: {counted(cluster.open_sas, 'IKE SA')} may be ahead of the partner"))
    if cluster.suspects:
        facts.append(("repair", Text(f"{counted(cluster.suspects, 'IKE SA')} may have lost an update", _FAIR)))
    if cluster.sync_progress is not None:
        facts.append(("joining", _progress(cluster.sync_progress)))
    facts += [(f"mirror {mirror.name}", _mirror(mirror)) for mirror in cluster.mirrors]
    if cluster.half_open is not None:
        facts += _sharing(cluster.half_open)
    if cluster.policies == "different":
        facts.append(("policy", Text("the partner has read another one, or other secrets", _FAIR)))
    if cluster.saved:
        facts.append(("saved state", Text(cluster.saved, "none" if cluster.saved in _SAVED else _BAD)))
    facts.append(("fencing", cluster.fencing))
    if cluster.addresses:
        missing = ("not to be had: see the log", _BAD) if cluster.role == "active" else ("not held here", "none")
        held, style = ("held here", "none") if cluster.holds_addresses else missing
        facts.append(("addresses", Text(f"{', '.join(cluster.addresses)} (").append(held, style=style).append(")")))
    return [(name, value) for name, value in facts if str(value)]


def _after_takeover(view: AfterTakeoverView) -> list[tuple[str, Text | str]]:
    """What the takeover has cost, and how far the exchanges are that make it good."""
    gaps = (
        f"{counted(view.open_gaps, 'SA')} wait for the first packet beyond the gap, {grouped(view.closed_gaps)} got it"
    )
    facts: list[tuple[str, Text | str]] = [("last failover", f"{counted(view.refused, 'packet')} refused; {gaps}")]
    if view.learnt:
        facts.append(("learnt", Text(f"{counted(view.learnt, 'window')} from traffic: replays were possible", _FAIR)))
    done = view.synchronised + view.rekeyed + view.closed + view.failed
    total = done + view.under_way + view.waiting
    if total:
        text = _bar(done / total).append(f" {grouped(done)} of {counted(total, 'child SA')}")
        parts = (
            (view.synchronised, "synchronised"), (view.rekeyed, "rekeyed"), (view.closed, "closed by itself"),
            (view.under_way, "under way"), (view.waiting, "waiting"),
        )  # fmt: skip
        text.append(": " + ", ".join(f"{grouped(number)} {what}" for number, what in parts if number))
        if view.failed:
            text.append(f", {grouped(view.failed)} refused by the peer", style=_BAD)
        facts.append(("making good", text))
    return facts


def _sharing(half_open: SharingView) -> list[tuple[str, Text | str]]:
    if not half_open.per_s:
        return [("half-open", "not shared")]
    text = f"{grouped(half_open.shared)} shared ({octets(half_open.octets)}), {grouped(half_open.withheld)} withheld"
    if half_open.continued:
        text += f", {grouped(half_open.continued)} taken over"
    budget = f"{half_open.per_s} a second, {half_open.used:.0%} used, {grouped(half_open.held)} held by the standby"
    return [("half-open", text), ("their budget", budget)]


def _is_there(cluster: ClusterView) -> bool:
    return cluster.partner_state == "connected"


def _mirror(mirror: MirrorView) -> Text:
    text = Text(mirror.state, style=_GOOD if mirror.state == "in sync" else _FAIR)
    if mirror.progress is not None:
        text.append(" ").append(_progress(mirror.progress))
    if mirror.lag:
        text.append(f", {counted(mirror.lag, 'commit')} behind")
    return text


def _progress(share: float) -> Text:
    return _bar(share).append(f" {min(max(share, 0.0), 1.0):.0%} of the state")


def _bar(share: float) -> Text:
    full = round(min(max(share, 0.0), 1.0) * 20)
    return Text.assemble(("█" * full, "green"), ("░" * (20 - full), "dim"))


def _counters(counters: dict[str, int]) -> RenderableType:
    """Two columns where there is room: names are long, numbers are short."""
    items = sorted((name, number) for name, number in counters.items())[:_MAX_COUNTERS]
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(style="dim", overflow="fold")
        table.add_column(justify="right", no_wrap=True)
    half = (len(items) + 1) // 2
    for row in range(half):
        cells = [f"  {items[row][0]}", grouped(items[row][1])]
        if row + half < len(items):
            cells += [f"  {items[row + half][0]}", grouped(items[row + half][1])]
        table.add_row(*cells)
    return table
