"""The children of a connection and the rules beside them: the SPD of RFC 4301 section 4.4.1."""

from __future__ import annotations

from enum import Enum

from ipsecha.gateway import config_values as values
from ipsecha.gateway.config_proposals import (
    DEFAULT_AH,
    DEFAULT_CHILD,
    defaults,
    numbered,
    parse_ah,
    parse_child,
    without_encryption,
)
from ipsecha.gateway.config_table import Table
from ipsecha.gateway.config_values import NEVER_S
from ipsecha.model.policy import Action, ChildPolicy, DontFragment, Rule, Start, TooBig
from ipsecha.model.proposals import Proposal
from ipsecha.model.selectors import TrafficSelector, selector_from_prefix


class SecurityProtocol(Enum):
    ESP = "esp"
    AH = "ah"


LIFE_FACTOR = 1.1
_MIN_LIFE_S, _MAX_LIFE_S = 10.0, 366 * 86400.0
_DEFAULT_PROPOSALS = defaults(DEFAULT_CHILD, parse_child)
_DEFAULT_AH_PROPOSALS = defaults(DEFAULT_AH, parse_ah)
_ANYWHERE = (selector_from_prefix("0.0.0.0/0"), selector_from_prefix("::/0"))
_SELECTORS = 'prefixes such as "10.1.0.0/16"'


def read_child(table: Table, *, can_initiate: bool, encapsulated: bool) -> ChildPolicy | None:
    """One table ``[connections.NAME.children.NAME]``; None where something that cannot do without is wrong.

    ``encapsulated``: the connection asks for UDP encapsulation.
    """
    local_ts = _selectors(table, "local", table.require_list("local", values.selector, f"our {_SELECTORS}"))
    remote_ts = _selectors(table, "remote", table.require_list("remote", values.selector, f"the peer's {_SELECTORS}"))
    rekey_s, life_s = read_lifetimes(table, 3600.0)
    start = table.get("start", values.choice(Start), Start.NONE)
    if start is not Start.NONE and not can_initiate:
        table.problem(
            "start", f'"{start.value}" needs one peer to call: "remote" of the connection is no single address'
        )
    proposals = _proposals(table, encapsulated=encapsulated)
    if any(without_encryption(proposal) for proposal in proposals):
        table.warn("proposals", '"null" does not encrypt: everybody on the way can read the traffic')
    child = ChildPolicy(
        name=table.name,
        local_ts=local_ts,
        remote_ts=remote_ts,
        proposals=proposals,
        start=start,
        rekey_s=rekey_s,
        life_s=life_s,
        rekey_bytes=table.get("rekey_bytes", values.size, 0),
        rekey_packets=table.get("rekey_packets", values.packets, 0),
        replay_window=table.get("replay_window", values.integer(32, 65536), 1024),
        dont_fragment=table.get("df", values.choice(DontFragment), DontFragment.COPY),
        too_big=table.get("too_big", values.choice(TooBig), TooBig.ICMP),
    )
    table.finish()
    _check_families(table, local_ts, remote_ts)
    return child if local_ts and remote_ts else None


def _proposals(table: Table, *, encapsulated: bool) -> tuple[Proposal, ...]:
    """Those of the ``protocol`` that is asked for."""
    if table.get("protocol", values.choice(SecurityProtocol), SecurityProtocol.ESP) is SecurityProtocol.ESP:
        return numbered(table.get_list("proposals", parse_child)) or _DEFAULT_PROPOSALS
    if encapsulated:
        table.problem("protocol", "AH cannot be encapsulated in UDP: leave out the connection's encapsulate = true")
    else:
        table.warn("protocol", "AH does not encrypt: everybody on the way can read the traffic")
    return numbered(table.get_list("proposals", parse_ah)) or _DEFAULT_AH_PROPOSALS


def read_lifetimes(table: Table, rekey_default_s: float) -> tuple[float, float]:
    """``rekey`` and ``life`` in seconds; the life defaults to a tenth more than the time of the rekey."""
    convert = values.duration(_MIN_LIFE_S, _MAX_LIFE_S, word="never")
    rekey_s = table.get("rekey", convert, rekey_default_s)
    life_s = table.get("life", values.duration(_MIN_LIFE_S, _MAX_LIFE_S, word="never", word_s=NEVER_S), 0.0)
    if not life_s:
        life_s = round(rekey_s * LIFE_FACTOR, 3) if rekey_s else NEVER_S
    if rekey_s and life_s < rekey_s * 1.02:
        least, found = values.duration_text(rekey_s), values.duration_text(life_s)
        table.problem("life", f'expected a life that outlasts "rekey" ({least}) by 2 % at least, found {found}')
    return rekey_s, life_s


def read_rules(table: Table) -> tuple[Rule, ...]:
    """The tables ``[[rules]]``, in their order."""
    result = []
    for entry in table.table_array("rules"):
        action = entry.require("action", values.choice(Action), '"bypass" or "discard"')
        local_ts = _selectors(entry, "local", entry.get_list("local", values.selector, _ANYWHERE))
        remote_ts = _selectors(entry, "remote", entry.get_list("remote", values.selector, _ANYWHERE))
        entry.finish()
        _check_families(entry, local_ts, remote_ts)
        if action is Action.BYPASS and local_ts == remote_ts == _ANYWHERE:
            entry.problem("", "this rule bypasses everything, so that nothing would be protected: name local or remote")
        if action is not None:
            result.append(Rule(action, local_ts, remote_ts))
    return tuple(result)


def check_duplicates(children: list[tuple[Table, ChildPolicy, bool]]) -> None:
    """Note children whose traffic cannot be told apart.  Those of peers with any address are narrowed when the peer
    comes, so only their own connection must keep them apart."""
    seen: dict[tuple[str, frozenset[TrafficSelector], frozenset[TrafficSelector]], str] = {}
    for table, child, fixed_peer in children:
        path = table.path_text
        scope = "" if fixed_peer else path.rsplit(".children.", 1)[0]
        key = (scope, frozenset(child.local_ts), frozenset(child.remote_ts))
        first = seen.setdefault(key, path)
        if first != path:
            table.problem("", f"selects the same traffic as {first}: packets could not be told apart")


def _selectors(table: Table, key: str, selectors: tuple[TrafficSelector, ...]) -> tuple[TrafficSelector, ...]:
    """The selectors without repeats and without those that others cover; both are noted as a warning."""
    kept: list[TrafficSelector] = []
    for selector in selectors:
        cover = next((other for other in selectors if other != selector and other.covers(selector)), None)
        if cover is not None or selector in kept:
            table.warn(key, f"{selector} is covered by {cover or selector} already")
        else:
            kept.append(selector)
    return tuple(kept)


def _check_families(table: Table, local: tuple[TrafficSelector, ...], remote: tuple[TrafficSelector, ...]) -> None:
    ours, theirs = {len(each.start) for each in local}, {len(each.start) for each in remote}
    if ours and theirs and not ours & theirs:
        table.problem("", "local and remote have no address family in common: expected IPv4 or IPv6 on both sides")
