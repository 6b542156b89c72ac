"""Connections: who the peers are and how both sides prove who they are (the PAD of RFC 4301 section 4.4.3)."""

from __future__ import annotations

from typing import NamedTuple

from ipsecha.crypto.credentials import ConnectionSecrets
from ipsecha.crypto.identity_binding import certified_form, is_bound
from ipsecha.gateway import config_values as values
from ipsecha.gateway.config_children import check_duplicates, read_child, read_lifetimes
from ipsecha.gateway.config_identities import default_identity, identity
from ipsecha.gateway.config_proposals import DEFAULT_IKE, defaults, numbered, parse_ike
from ipsecha.gateway.config_secrets import Chain, SecretFiles
from ipsecha.gateway.config_table import Table
from ipsecha.model.identity import Identity, parse_identity
from ipsecha.model.numbers import IdType
from ipsecha.model.policy import Authentication, ChildPolicy, Connection, Inbound

_ANY = "any"
_PLAIN = Connection(
    name="",
    local=(),
    remote=(),
    local_id=Identity(IdType.KEY_ID, b""),
    remote_id=None,
    local_auth=Authentication.PSK,
    remote_auth=Authentication.PSK,
    proposals=defaults(DEFAULT_IKE, parse_ike),
    children=(),
)
"""Where the defaults come from."""


class ReadConnections(NamedTuple):
    connections: tuple[Connection, ...]
    secrets: dict[str, ConnectionSecrets]


class _Auth(NamedTuple):
    local: Authentication
    remote: Authentication
    secrets: ConnectionSecrets
    chain: Chain | None


class _Peers(NamedTuple):
    local: tuple[str, ...]
    remote: tuple[str, ...]

    @property
    def can_initiate(self) -> bool:
        """Whether there is one peer to call."""
        return bool(self.remote) and "/" not in self.remote[0]


def read_connections(root: Table, files: SecretFiles, shared: tuple[str, ...]) -> ReadConnections:
    """All tables ``[connections.NAME]``.  ``shared``: the cluster's outer addresses, the default for ``local``."""
    connections: list[Connection] = []
    secrets: dict[str, ConnectionSecrets] = {}
    children: list[tuple[Table, ChildPolicy, bool]] = []
    told_apart: dict[tuple[object, ...], str] = {}
    for table in root.named_tables("connections"):
        _check_name(table)
        connection, connection_secrets = _read_connection(table, files, shared, children)
        if connection is None:
            continue
        key = (frozenset(connection.local), frozenset(connection.remote), connection.remote_id)
        first = told_apart.setdefault(key, table.name)
        if first != table.name:
            text = f'has the same local, remote and remote_id as "{first}": peers could not be told apart'
            table.problem("", text)
        connections.append(connection)
        secrets[connection.name] = connection_secrets
    check_duplicates(children)
    if not root.has("connections") or root.says("connections", {}):
        root.problem("", "there is no connection: expected a table [connections.NAME]")
    return ReadConnections(tuple(connections), secrets)


def _check_name(table: Table) -> None:
    try:
        values.name(table.name)
    except values.Wrong as wrong:
        table.problem("", wrong.text)


def _read_connection(
    table: Table, files: SecretFiles, shared: tuple[str, ...], children: list[tuple[Table, ChildPolicy, bool]]
) -> tuple[Connection | None, ConnectionSecrets]:
    peers = _read_peers(table, shared)
    auth = _read_auth(table, files)
    local_id = _local_identity(table, peers, auth)
    remote_id = _remote_identity(table, auth)
    rekey_s, life_s = read_lifetimes(table, 14400.0)
    connection = Connection(
        name=table.name,
        local=peers.local,
        remote=peers.remote,
        local_id=local_id or _PLAIN.local_id,
        remote_id=remote_id,
        local_auth=auth.local,
        remote_auth=auth.remote,
        proposals=numbered(table.get_list("proposals", parse_ike)) or _PLAIN.proposals,
        children=_read_children(table, peers, children),
        rekey_s=rekey_s,
        life_s=life_s,
        dpd_s=table.get("dpd", values.duration(1.0, 86400.0, word="off"), _PLAIN.dpd_s),
        encapsulate=table.get("encapsulate", values.boolean, _PLAIN.encapsulate),
        fragmentation=table.get("fragmentation", values.boolean, _PLAIN.fragmentation),
        fragment_size=table.get("fragment_size", values.integer(576, 9000), _PLAIN.fragment_size),
        retransmit_timeout_s=table.get("retransmit_timeout", values.duration(0.05, 60.0), _PLAIN.retransmit_timeout_s),
        retransmit_factor=table.get("retransmit_factor", values.number(1.0, 4.0), _PLAIN.retransmit_factor),
        retransmit_tries=table.get("retransmit_tries", values.integer(1, 30), _PLAIN.retransmit_tries),
        unique=table.get("unique", values.boolean, _PLAIN.unique),
        keepalive_s=table.get(
            "keepalive", values.duration(1.0, 600.0, word="off", word_s=values.NEVER_S), _PLAIN.keepalive_s
        ),
        inbound=table.get("inbound", values.choice(Inbound), _PLAIN.inbound),
    )
    table.finish()
    return (connection if peers.local and local_id is not None else None), auth.secrets


def _read_children(
    table: Table, peers: _Peers, children: list[tuple[Table, ChildPolicy, bool]]
) -> tuple[ChildPolicy, ...]:
    own = []
    for entry in table.named_tables("children"):
        _check_name(entry)
        child = read_child(entry, can_initiate=peers.can_initiate, encapsulated=table.says("encapsulate", True))
        if child is not None:
            own.append(child)
            children.append((entry, child, peers.can_initiate))
    if table.table("children").empty:
        table.problem("", f"has no children: expected a table [{table.path_text}.children.NAME]")
    return tuple(own)


def _read_peers(table: Table, shared: tuple[str, ...]) -> _Peers:
    if shared:
        local = table.get_list("local", values.unicast_address, shared)
    else:
        local = table.require_list("local", values.unicast_address, 'our address such as "192.0.2.10"')
    remote: tuple[str, ...] = ()
    if not table.says("remote", _ANY):
        remote = table.require_list("remote", values.network, 'the peer\'s address, prefixes, or "any"')
    for address in shared and local:
        if address not in shared:
            table.warn("local", f"{address} is no shared address of the cluster: its tunnels end with the member")
    for address in remote:
        if address in local:
            table.problem("remote", f"{address} is one of our own addresses")
    families = {":" in address for address in local}
    if local and remote and "/" not in remote[0] and (":" in remote[0]) not in families:
        table.problem("remote", f"{remote[0]} cannot be reached: expected the address family of local ({local[0]})")
    return _Peers(local, remote)


def _read_auth(table: Table, files: SecretFiles) -> _Auth:
    uses_certificate = any(table.has(key) for key in ("certificate", "private_key", "ca"))
    guess = Authentication.CERTIFICATE if uses_certificate and not table.has("psk_file") else Authentication.PSK
    local = table.get("auth", values.choice(Authentication), guess)
    remote = table.get("remote_auth", values.choice(Authentication), local)
    psk: bytes | None = None
    chain = private = authorities = None
    if Authentication.PSK in (local, remote):
        psk = files.psk(table, "psk_file")
    elif table.has("psk_file"):
        table.problem("psk_file", 'is not used: both sides authenticate by certificate (auth = "certificate")')
    if local is Authentication.CERTIFICATE:
        chain = files.chain(table, "certificate")
        private = files.private_key(table, "private_key")
        files.check_pair(table, chain, private)
    if remote is Authentication.CERTIFICATE:
        authorities = files.authorities(table, "ca")
    _check_unused(table, local, remote)
    secrets = ConnectionSecrets(
        psk=psk,
        chain=tuple(each.der for each in chain or ()),
        private_key=private.octets if private is not None else None,
        ca=tuple(each.der for each in authorities or ()),
    )
    return _Auth(local, remote, secrets, chain)


def _check_unused(table: Table, local: Authentication, remote: Authentication) -> None:
    for key in ("certificate", "private_key"):
        if local is Authentication.PSK and table.has(key):
            table.problem(key, 'is not used: we authenticate by pre-shared key (auth = "psk")')
    if remote is Authentication.PSK and table.has("ca"):
        table.problem("ca", "is not used: the peer authenticates by pre-shared key")


def _local_identity(table: Table, peers: _Peers, auth: _Auth) -> Identity | None:
    """``local_id``; without it the name in our certificate, or our first address."""
    certificate = auth.chain[0] if auth.chain is not None else None
    if not table.has("local_id"):
        if certificate is not None:
            return default_identity(certificate)
        return parse_identity(peers.local[0]) if peers.local else None
    local_id = table.get("local_id", identity, None)
    if certificate is None or local_id is None:
        return local_id
    if not is_bound(certificate, local_id):
        table.warn("local_id", f'is not in the certificate of "{certificate.name}": peers will refuse it')
    return certified_form(certificate, local_id)


def _remote_identity(table: Table, auth: _Auth) -> Identity | None:
    if auth.remote is Authentication.CERTIFICATE and not table.has("remote_id"):
        wanted = 'expected the peer\'s identity, or "any" for all that the CA vouches for'
        table.problem("", f'"remote_id" is missing: {wanted}')
    return table.get("remote_id", values.optional(identity, _ANY), None)
