"""The ``[cluster]`` table of the policy: what all members have in common."""

from __future__ import annotations

from ipsecha.cluster.witness import NAME
from ipsecha.gateway import config_values as values
from ipsecha.gateway.config_model import Acks, Alone, ClusterAddress, ClusterConfig, ClusterMode, CommitMode
from ipsecha.gateway.config_table import Table
from ipsecha.model.policy import AfterFailover

OUTER = "outer"
"""The role of the link towards the peers; its shared addresses are the default for ``local`` of connections."""

MAX_MEMBERS = 4

_PLAIN = ClusterConfig(name="", mode=ClusterMode.HOT_STANDBY, members=())


def read_cluster(root: Table) -> ClusterConfig | None:
    """The cluster, or None for a single gateway."""
    if not root.has("cluster"):
        return None
    table = root.table("cluster")
    name = table.require("name", values.name, 'the name of the cluster such as "berlin"')
    members = table.require_list("members", values.member_name, 'the names of the members such as ["alpha", "beta"]')
    config = ClusterConfig(
        name=name or "",
        mode=table.get("mode", values.choice(ClusterMode), _PLAIN.mode),
        members=members,
        addresses=_read_addresses(table),
        horizon_s=table.get("horizon", values.duration(0.01, 10.0), _PLAIN.horizon_s),
        lease_budget=table.get("lease_budget", values.integer(1000, 1_000_000), _PLAIN.lease_budget),
        heartbeat_s=table.get("heartbeat", values.duration(0.02, 5.0), _PLAIN.heartbeat_s),
        missed_beats=table.get("missed_beats", values.integer(2, 100), _PLAIN.missed_beats),
        alone=table.get("alone", values.choice(Alone), _PLAIN.alone),
        commit=table.get("commit", values.choice(CommitMode), _PLAIN.commit),
        acks=table.get("acks", values.choice(Acks), _PLAIN.acks),
        witness=table.get("witness", values.endpoint, None),
        start_wait_s=table.get("start_wait", values.duration(0.1, 600.0), _PLAIN.start_wait_s),
        after_failover=AfterFailover(
            rekey_all=table.get("rekey_after_failover", values.boolean, _PLAIN.after_failover.rekey_all),
            exchanges_per_s=table.get("rekey_rate", values.number(0.1, 1000.0), _PLAIN.after_failover.exchanges_per_s),
        ),
    )
    table.finish()
    _check_members(table, members)
    if config.start_wait_s < config.heartbeat_s * config.missed_beats:
        silence = values.duration_text(round(config.heartbeat_s * config.missed_beats, 6))
        table.problem("start_wait", f"expected at least the time after which a partner counts as silent ({silence})")
    if len(members) > 2 and config.commit is CommitMode.LAZY:
        table.problem("commit", 'expected "strict" with more than two members')
    if len(members) == 2 and config.acks is Acks.ALL:
        table.problem("acks", "is not used: with two members there is one backup")
    return config


def _check_members(table: Table, members: tuple[str, ...]) -> None:
    count = table.length("members")
    if count != 0 and not 2 <= count <= MAX_MEMBERS:
        table.problem("members", f"expected two to four members, found {count}")
    if NAME in members:
        table.problem("members", f'"{NAME}" is the name of the witness, not of a member')
    if len(set(members)) != len(members):
        table.problem("members", "expected names that differ, found one twice")


def _read_addresses(table: Table) -> tuple[ClusterAddress, ...]:
    result: dict[str, ClusterAddress] = {}
    for entry in table.table_array("addresses"):
        pair = entry.require("address", values.address_with_prefix, 'an address such as "192.0.2.10/24"')
        link = entry.require("link", values.name, 'the role of its link such as "outer"')
        entry.finish()
        if pair is None or link is None:
            continue
        if pair[0] in result:
            entry.problem("address", f"{pair[0]} stands here for the second time")
        result[pair[0]] = ClusterAddress(*pair, link)
    return tuple(result.values())


def outer_addresses(cluster: ClusterConfig | None) -> tuple[str, ...]:
    """The shared addresses that face the peers."""
    return tuple(each.address for each in cluster.addresses if each.link == OUTER) if cluster is not None else ()
