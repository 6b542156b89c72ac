"""The small file of each member: who it is, which interfaces play which role, and its side of the cluster link."""

from __future__ import annotations

from pathlib import Path

from ipsecha.gateway import config_values as values
from ipsecha.gateway.config_model import (
    BeatPathConfig,
    ClusterConfig,
    ClusterLinkConfig,
    ControlConfig,
    DeviceConfig,
    MemberConfig,
    PersistenceConfig,
    Trust,
    UdpInner,
)
from ipsecha.gateway.config_problems import nearest_name
from ipsecha.gateway.config_secrets import SecretFiles, common_name
from ipsecha.gateway.config_table import Convert, Table
from ipsecha.model.numbers import PORT_IKE, PORT_NAT_T
from ipsecha.model.records import Address

DEFAULT_SOCKET = "/run/ipsecha/control.sock"
_SUN_PATH = 107  # octets of a unix socket's name, without the final zero
_ARROW = "<->"


def policy_path(root: Table) -> Path | None:
    """Where the policy is; it is read before the rest, because the rest must fit it."""
    return root.require(
        "policy", values.path_below(root.source.path.parent), 'the path of the policy such as "policy.toml"'
    )


def read_member(root: Table, policy: Path, cluster: ClusterConfig | None, files: SecretFiles) -> MemberConfig | None:
    """The member's own settings, checked against the cluster's; None where its name is missing or wrong."""
    below = values.path_below(root.source.path.parent)
    name = root.require("name", values.member_name, "the name of this member")
    links = _read_links(root, cluster)
    link = _read_cluster_link(root, name, cluster, files)
    control = root.table("control")
    control_config = ControlConfig(
        socket=control.get("socket", _socket_path(below), Path(DEFAULT_SOCKET)),
        group=control.get("group", values.name, ""),
    )
    control.finish()
    device = _read_device(root)
    persistence = _read_persistence(root, cluster, files)
    root.finish()
    if name is None:
        return None
    if cluster is not None and cluster.members and name not in cluster.members:
        members = ", ".join(cluster.members)
        nearest = nearest_name(name, cluster.members)
        root.problem("name", f'"{name}" is no member of the cluster "{cluster.name}" ({members})', nearest)
    return MemberConfig(name, root.source.path, policy, links, link, control_config, device, persistence)


def _socket_path(below: Convert[Path]) -> Convert[Path]:
    def convert(value: object) -> Path:
        path = below(value)
        if len(str(path).encode()) > _SUN_PATH:
            raise values.expected(f"a path of at most {_SUN_PATH} octets", value)
        return path

    return convert


def _read_links(root: Table, cluster: ClusterConfig | None) -> dict[str, str]:
    table = root.table("links")
    links: dict[str, str] = {}
    for role in table.names():
        interface = table.get(role, values.interface, "")
        if interface:
            links[role] = interface
    wanted = dict.fromkeys(address.link for address in cluster.addresses) if cluster is not None else {}
    for role in wanted:
        if not table.has(role):
            nearest = nearest_name(role, links)
            root.problem("links", f'"{role}" is missing: the cluster has a shared address on that link', nearest)
    return links


def _read_cluster_link(
    root: Table, name: str | None, cluster: ClusterConfig | None, files: SecretFiles
) -> ClusterLinkConfig | None:
    if cluster is None:
        if root.has("cluster"):
            root.problem("cluster", "is not used: the policy has no [cluster], so this is a single gateway")
        return None
    if not root.has("cluster"):
        root.problem(
            "", "there is no [cluster]: expected listen, peers, certificate, private_key and ca of this member"
        )
        return None
    table = root.table("cluster")
    below = values.path_below(root.source.path.parent)
    listen = table.require("listen", values.endpoint, 'our side of the cluster link such as "10.99.0.1:4600"')
    peers = _read_peers(table, name, cluster)
    beats = tuple(path for each in table.named_tables("beats") for path in _read_beat_paths(each, name, cluster))
    _check_identity(table, name, files)
    paths = {key: table.get(key, below, Path()) for key in ("certificate", "private_key", "ca")}
    table.finish()
    if listen is None:
        return None
    if listen in peers.values():
        table.problem("peers", "expected the other member's address, found our own")
    if len({address[0] for address in peers.values()}) != len(peers):
        table.problem("peers", "expected a host of its own for each member, found one twice")
    return ClusterLinkConfig(listen, peers, **paths, beats=beats)


def _read_peers(table: Table, name: str | None, cluster: ClusterConfig) -> dict[str, Address]:
    entries = table.table("peers")
    peers: dict[str, Address] = {}
    for peer in entries.names():
        address = entries.get(peer, values.endpoint, None)
        if peer not in cluster.members or peer == name:
            others = [member for member in cluster.members if member != name]
            what = "the other member" if len(others) == 1 else "another member"
            entries.problem(peer, f"is not {what} of the cluster", nearest_name(peer, others))
        elif address is not None:
            peers[peer] = address
    for member in cluster.members:
        if name in cluster.members and member != name and not entries.has(member):
            table.problem("peers", f'"{member}" is missing: expected its address such as "10.99.0.2:4600"')
    return peers


def _read_beat_paths(table: Table, name: str | None, cluster: ClusterConfig) -> tuple[BeatPathConfig, ...]:
    if len(cluster.members) > 2:
        return _read_beat_mesh(table, name, cluster)
    path = _read_beat_path(table)
    return (path,) if path is not None else ()


def _read_beat_mesh(table: Table, name: str | None, cluster: ClusterConfig) -> tuple[BeatPathConfig, ...]:
    """With more than two members ``partners`` has the addresses of all others."""
    local = table.require("local", values.endpoint, 'our address such as "192.0.2.11:4601"')
    partners = table.table("partners")
    paths = []
    for member in cluster.members:
        if member != name:
            partner = partners.require(member, values.endpoint, f'the address of "{member}" such as "192.0.2.12:4601"')
            if local is not None and partner is not None:
                paths.append(BeatPathConfig(table.name, local, partner, member))
    partners.finish()
    table.finish()
    return tuple(paths)


def _read_beat_path(table: Table) -> BeatPathConfig | None:
    local = table.require("local", values.endpoint, 'our address such as "192.0.2.11:4601"')
    partner = table.require("partner", values.endpoint, 'the other member\'s address such as "192.0.2.12:4601"')
    table.finish()
    if local is None or partner is None:
        return None
    if local == partner:
        table.problem("partner", "expected the other member's address, found our own")
    return BeatPathConfig(table.name, local, partner)


def _check_identity(table: Table, name: str | None, files: SecretFiles) -> None:
    """The member's certificate must be its own: the other side compares the common name."""
    chain = files.chain(table, "certificate")
    private = files.private_key(table, "private_key")
    files.authorities(table, "ca")
    files.check_pair(table, chain, private)
    if chain is not None and name is not None:
        found = common_name(chain[0])
        if found != name:
            table.problem("certificate", f'expected the certificate of this member ("{name}"), found that of "{found}"')


def _read_persistence(root: Table, cluster: ClusterConfig | None, files: SecretFiles) -> PersistenceConfig | None:
    if not root.has("persistence"):
        return None
    table = root.table("persistence")
    below = values.path_below(root.source.path.parent)
    path = table.require("path", below, 'where state is saved, such as "/var/lib/ipsecha/state"')
    key = files.seal_key(table, "key_file")
    trust = table.get("trust", values.choice(Trust), Trust.PARTNER)
    wait_s = table.get("wait", values.duration(1.0, 3600.0), 60.0)
    table.finish()
    if cluster is None:
        table.problem("", "is not used: the policy has no [cluster], so this is a single gateway")
    elif len(cluster.members) > 2:
        table.problem("", "is not there for more than two members")
    if path is not None and not path.parent.is_dir() and not files.skip:
        table.problem("path", f"the directory {str(path.parent)!r} does not exist")
    return PersistenceConfig(path, key, trust, wait_s) if path is not None and key is not None else None


def _read_device(root: Table) -> DeviceConfig:
    table = root.table("device")
    port = table.get("port", values.integer(1, 65535), PORT_IKE)
    nat_port = table.get("nat_port", values.integer(1, 65535), PORT_NAT_T)
    config = DeviceConfig(
        tun=table.get("tun", values.interface, "ipsecha0"),
        port=port,
        nat_port=nat_port,
        inner=table.get("inner", _inner, None),
    )
    table.finish()
    if port == nat_port:
        table.problem("nat_port", "expected a port that differs from the port of IKE (RFC 3948)")
    if config.inner is not None and table.has("tun"):
        table.problem("tun", 'is not used: "inner" names datagrams instead of a TUN device')
    return config


def _inner(value: object) -> UdpInner | None:
    """``"tun"``, or ``"udp:127.0.0.1:7001<->127.0.0.1:7002"``: ours, then the other end's address."""
    if value == "tun":
        return None
    if isinstance(value, str) and value.startswith("udp:") and value.count(_ARROW) == 1:
        ours, theirs = value.removeprefix("udp:").split(_ARROW)
        local, remote = values.endpoint(ours.strip()), values.endpoint(theirs.strip())
        if local != remote and (":" in local[0]) == (":" in remote[0]):
            return UdpInner(local, remote)
    raise values.expected('"tun" or "udp:HOST:PORT<->HOST:PORT" with two addresses that differ', value)
