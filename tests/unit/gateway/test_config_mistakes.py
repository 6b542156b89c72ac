"""Every mistake in a policy is reported, each with its line, its key, what was expected and the nearest valid name."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from config_texts import CHILD, CONNECTION, GOOD, LAST, edited
from ipsecha.gateway.config import ConfigError, load_policy
from ipsecha.gateway.config_problems import MAX_PROBLEMS, nearest_name, shown
from ipsecha.model.errors import PolicyError

DURATION = 'expected a duration from 10s to 366d such as "30s", "1h30m" or "never", found '
SELECTOR = 'expected a prefix, an address or a range such as "10.1.0.0/16" or "10.1.0.0/24[tcp/80]", found '


def test_good(complaints: Any) -> None:
    assert complaints(GOOD) == []


PLACE = 'remote = "203.0.113.7"'

MISTAKES = [
    # unknown and missing keys
    (
        PLACE,
        'remte = "203.0.113.7"',
        [
            '1: connections.paris: "remote" is missing: expected the peer\'s address, prefixes, or "any"',
            '3: connections.paris.remte: unknown key; did you mean "remote"?',
        ],
    ),
    (CONNECTION, 'psk_file = "paris.psk"\nsecret = "x"', ["5: connections.paris.secret: unknown key"]),
    (
        CONNECTION,
        'psk_file = "paris.psk"\nReKey = "4h"',
        ['5: connections.paris.ReKey: unknown key; did you mean "rekey"?'],
    ),
    (GOOD, "", ["policy.toml: there is no connection: expected a table [connections.NAME]"]),
    (
        '[connections.paris.children.lan]\nlocal = "10.1.0.0/16"\nremote = "10.2.0.0/16"\n',
        "",
        ["1: connections.paris: has no children: expected a table [connections.paris.children.NAME]"],
    ),
    (
        GOOD,
        GOOD.replace("connections", "conections"),
        [
            "policy.toml: there is no connection: expected a table [connections.NAME]",
            '1: conections: unknown key; did you mean "connections"?',
        ],
    ),
    (LAST, "", [f'6: {CHILD}: "remote" is missing: expected the peer\'s prefixes such as "10.1.0.0/16"']),
    # addresses
    (
        PLACE,
        'remote = "paris.example.net"',
        [
            '3: connections.paris.remote: expected an address or a prefix such as "203.0.113.0/24", '
            'found "paris.example.net"'
        ],
    ),
    (
        PLACE,
        'remote = "203.0.113.7/24"',
        [
            '3: connections.paris.remote: expected an address or a prefix such as "203.0.113.0/24", '
            'found "203.0.113.7/24"; did you mean "203.0.113.0/24"?'
        ],
    ),
    (
        PLACE,
        'remote = ["203.0.113.7", "any"]',
        ['3: connections.paris.remote[2]: expected an address or a prefix such as "203.0.113.0/24", found "any"'],
    ),
    (PLACE, "remote = []", ["3: connections.paris.remote: expected at least one value, found an empty list"]),
    (PLACE, 'remote = "192.0.2.10"', ["3: connections.paris.remote: 192.0.2.10 is one of our own addresses"]),
    (
        PLACE,
        'remote = "2001:db8::7"',
        [
            "3: connections.paris.remote: 2001:db8::7 cannot be reached: "
            "expected the address family of local (192.0.2.10)"
        ],
    ),
    (
        'local = "192.0.2.10"',
        'local = "0.0.0.0"',
        ['2: connections.paris.local: expected an address that a host can have, found "0.0.0.0"'],
    ),
    (
        'local = "192.0.2.10"',
        'local = "fe80::1%eth0"',
        ['2: connections.paris.local: expected an IP address such as "192.0.2.1", found "fe80::1%eth0"'],
    ),
    (
        'local = "192.0.2.10"',
        "local = 3221225994",
        ['2: connections.paris.local: expected an IP address such as "192.0.2.1", found 3221225994'],
    ),
    # identities
    (
        PLACE,
        PLACE + '\nremote_id = "päris.example.net"',
        [
            "4: connections.paris.remote_id: identity 'päris.example.net': domain names and mail addresses are ASCII "
            "(use the xn-- form)"
        ],
    ),
    (
        PLACE,
        PLACE + '\nremote_id = "X=1, CN=paris"',
        [
            "4: connections.paris.remote_id: distinguished name 'X=1, CN=paris': 'X=1' is not KEY=VALUE "
            "with KEY one of "
            "C, ST, L, O, OU, CN, DC, UID, E, EMAILADDRESS, SERIALNUMBER, G, S, T"
        ],
    ),
    # values
    (CONNECTION, CONNECTION + '\nrekey = "4 parsecs"', [f'5: connections.paris.rekey: {DURATION}"4 parsecs"']),
    (CONNECTION, CONNECTION + "\nrekey = 3600", [f"5: connections.paris.rekey: {DURATION}3600"]),
    (CONNECTION, CONNECTION + '\nrekey = "1s"', [f'5: connections.paris.rekey: {DURATION}"1s"']),
    (CONNECTION, CONNECTION + '\nrekey = "9999999999d"', [f'5: connections.paris.rekey: {DURATION}"9999999999d"']),
    (
        CONNECTION,
        CONNECTION + '\nrekey = "1h"\nlife = "30m"',
        ['6: connections.paris.life: expected a life that outlasts "rekey" (1h) by 2 % at least, found 30m'],
    ),
    (
        CONNECTION,
        CONNECTION + "\nencapsulate = 1",
        ["5: connections.paris.encapsulate: expected true or false, found 1"],
    ),
    (
        CONNECTION,
        CONNECTION + "\nretransmit_factor = nan",
        ["5: connections.paris.retransmit_factor: expected a number from 1 to 4, found nan"],
    ),
    (
        CONNECTION,
        CONNECTION + "\nfragment_size = 100",
        ["5: connections.paris.fragment_size: expected a whole number from 576 to 9000, found 100"],
    ),
    (
        CONNECTION,
        CONNECTION + f"\nfragment_size = {'9' * 50}",
        ["5: connections.paris.fragment_size: expected a whole number from 576 to 9000, found a very large number"],
    ),
    (
        LAST,
        LAST + '\nrekey_bytes = "10 GBytes"',
        [
            f'9: {CHILD}.rekey_bytes: expected an amount from 1MB to 1000PB such as "10GB" or "4GiB", or "never", '
            'found "10 GBytes"'
        ],
    ),
    (
        LAST,
        LAST + "\nrekey_packets = 5",
        [
            f'9: {CHILD}.rekey_packets: expected a number of packets from 1000 such as 1000000 or "500M", or "never", '
            "found 5"
        ],
    ),
    (
        LAST,
        LAST + "\nreplay_window = 0",
        [f"9: {CHILD}.replay_window: expected a whole number from 32 to 65536, found 0"],
    ),
    (
        LAST,
        LAST + '\nstart = "trip"',
        [f'9: {CHILD}.start: expected "none", "trap" or "start", found "trip"; did you mean "trap"?'],
    ),
    (LAST, LAST + "\ndf = true", [f'9: {CHILD}.df: expected "copy", "set" or "clear", found true']),
    # selectors
    (LAST, 'remote = "10.2.0.1/16"', [f'8: {CHILD}.remote: {SELECTOR}"10.2.0.1/16"; did you mean "10.2.0.0/16"?']),
    (LAST, 'remote = "10.2.0.9-10.2.0.1"', [f'8: {CHILD}.remote: {SELECTOR}"10.2.0.9-10.2.0.1"']),
    (
        LAST,
        'remote = "10.2.0.0/16[tpc/80]"',
        [
            f"8: {CHILD}.remote: expected a protocol "
            "(any, icmp, tcp, udp, gre, icmpv6, ospf, sctp or a number up to 255) "
            'in the brackets, found "10.2.0.0/16[tpc/80]"; did you mean "tcp"?'
        ],
    ),
    (
        LAST,
        'remote = "10.2.0.0/16[tcp/http]"',
        [
            f'8: {CHILD}.remote: expected a port or a range of ports such as "80" or "5000-5010" behind the protocol, '
            'found "10.2.0.0/16[tcp/http]"'
        ],
    ),
    (
        LAST,
        'remote = "2001:db8::/32"',
        [f"6: {CHILD}: local and remote have no address family in common: expected IPv4 or IPv6 on both sides"],
    ),
    (
        LAST,
        'remote = ["10.2.0.0/16", "10.2.3.0/24"]',
        [f"8: warning: {CHILD}.remote: 10.2.3.0/24 is covered by 10.2.0.0/16 already"],
    ),
    (
        LAST,
        LAST + '\n[connections.paris.children.lan2]\nlocal = "10.1.0.0/16"\nremote = "10.2.0.0/16"',
        [f"9: connections.paris.children.lan2: selects the same traffic as {CHILD}: packets could not be told apart"],
    ),
    (PLACE, 'remote = "any"', []),
    (LAST, LAST + '\nstart = "start"', []),
    (
        GOOD,
        GOOD.replace(PLACE, 'remote = "203.0.113.0/24"') + 'start = "start"\n',
        [f'9: {CHILD}.start: "start" needs one peer to call: "remote" of the connection is no single address'],
    ),
    # connections that cannot be told apart
    (
        GOOD,
        GOOD + GOOD.replace("paris", "rome").replace("rome.psk", "paris.psk").replace("10.2.", "10.3."),
        ['9: connections.rome: has the same local, remote and remote_id as "paris": peers could not be told apart'],
    ),
    (
        "[connections.paris]",
        "[connections.'par is']",
        [
            '1: connections."par is": '
            "expected a name of letters, digits, '_', '.' and '-' (at most 63), found \"par is\"",
            '6: connections.paris: "local" is missing: expected our address such as "192.0.2.10"',
            '6: connections.paris: "psk_file" is missing: expected a file with the pre-shared key',
            '6: connections.paris: "remote" is missing: expected the peer\'s address, prefixes, or "any"',
            '1: connections."par is": has no children: expected a table [connections."par is".children.NAME]',
        ],
    ),
    (GOOD, "connections = 5\n", ["1: connections: expected a table ([connections]), found 5"]),
    (GOOD, "connections.paris = 5\n", ["1: connections.paris: expected a table ([connections.paris]), found 5"]),
    # authentication
    (
        CONNECTION,
        'psk_file = "absent.psk"',
        ["4: connections.paris.psk_file: cannot read absent.psk: no such file or directory"],
    ),
    (CONNECTION, "", ['1: connections.paris: "psk_file" is missing: expected a file with the pre-shared key']),
    (
        CONNECTION,
        CONNECTION + '\nca = "ca.crt"',
        ["5: connections.paris.ca: is not used: the peer authenticates by pre-shared key"],
    ),
    (
        CONNECTION,
        'auth = "certificate"',
        [
            '1: connections.paris: "certificate" is missing: expected a file with the certificate (PEM)',
            '1: connections.paris: "private_key" is missing: expected a file with the private key (PEM)',
            '1: connections.paris: "ca" is missing: expected a file with the CA\'s certificate (PEM)',
            '1: connections.paris: "remote_id" is missing: expected the peer\'s identity, or "any" for all that the CA '
            "vouches for",
        ],
    ),
    (
        CONNECTION,
        'auth = "eap"',
        [
            '4: connections.paris.auth: expected "psk" or "certificate", found "eap"',
            '1: connections.paris: "psk_file" is missing: expected a file with the pre-shared key',
        ],
    ),
    # rules and limits
    (
        GOOD,
        GOOD + '[[rules]]\naction = "allow"\n',
        ['10: rules[1].action: expected "bypass" or "discard", found "allow"'],
    ),
    (
        GOOD,
        GOOD + '[[rules]]\nlocal = "10.0.0.0/8"\n',
        ['9: rules[1]: "action" is missing: expected "bypass" or "discard"'],
    ),
    (
        GOOD,
        GOOD + '[[rules]]\naction = "bypass"\n',
        ["9: rules[1]: this rule bypasses everything, so that nothing would be protected: name local or remote"],
    ),
    (GOOD, GOOD + '[rules]\naction = "bypass"\n', ["9: rules: expected tables ([[rules]]), found a table"]),
    (
        GOOD,
        GOOD + "[limits]\ncookie_threshold = 50\nhalf_open_limit = 20\n",
        ["10: limits.cookie_threshold: expected fewer than half_open_limit, so that cookies come before refusals"],
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES)
def test_mistakes(complaints: Any, old: str, new: str, expected: list[str]) -> None:
    lines = [line if line.startswith("policy.toml") else f"policy.toml:{line}" for line in expected]
    assert sorted(complaints(edited(old, new))) == sorted(lines)


CLUSTER = """\
[cluster]
name = "berlin"
members = ["alpha", "beta"]

[[cluster.addresses]]
address = "192.0.2.10/24"
link = "outer"

"""
CLUSTER_MISTAKES = [
    ("", "", []),
    ('["alpha", "beta"]', '["alpha"]', ["3: cluster.members: expected two to four members, found 1"]),
    ('["alpha", "beta"]', '["a", "b", "c", "d", "e"]', ["3: cluster.members: expected two to four members, found 5"]),
    (
        'members = ["alpha", "beta"]\n',
        'members = ["alpha", "beta"]\nacks = "all"\n',
        ["4: cluster.acks: is not used: with two members there is one backup"],
    ),
    (
        'members = ["alpha", "beta"]\n',
        'members = ["alpha", "beta", "gamma"]\ncommit = "lazy"\n',
        ['4: cluster.commit: expected "strict" with more than two members'],
    ),
    ('["alpha", "beta"]', '["alpha", "alpha"]', ["3: cluster.members: expected names that differ, found one twice"]),
    (
        '["alpha", "beta"]',
        '["Alpha", "beta"]',
        [
            "3: cluster.members[1]: "
            "expected a member's name of small letters, digits and '-' (at most 63), found \"Alpha\"",
        ],
    ),
    ('name = "berlin"\n', "", ['1: cluster: "name" is missing: expected the name of the cluster such as "berlin"']),
    (
        'name = "berlin"',
        'name = "berlin"\nmode = "hot-standbye"',
        ['3: cluster.mode: expected "hot-standby", found "hot-standbye"; did you mean "hot-standby"?'],
    ),
    (
        'name = "berlin"',
        'name = "berlin"\nhorizon = "1m"',
        ['3: cluster.horizon: expected a duration from 10ms to 10s such as "30s", "1h30m", found "1m"'],
    ),
    (
        'name = "berlin"',
        'name = "berlin"\nlease_budget = 999',
        ["3: cluster.lease_budget: expected a whole number from 1000 to 1000000, found 999"],
    ),
    (
        'name = "berlin"',
        'name = "berlin"\nlease_bugdet = 5000',
        ['3: cluster.lease_bugdet: unknown key; did you mean "lease_budget"?'],
    ),
    (
        'name = "berlin"',
        'name = "berlin"\nheartbeat = "1s"\nmissed_beats = 5',
        ["1: cluster.start_wait: expected at least the time after which a partner counts as silent (5s)"],
    ),
    (
        'name = "berlin"',
        'name = "berlin"\nalone = "stopp"',
        ['3: cluster.alone: expected "continue" or "stop", found "stopp"; did you mean "stop"?'],
    ),
    (
        'name = "berlin"',
        'name = "berlin"\ncommit = "lasy"',
        ['3: cluster.commit: expected "strict" or "lazy", found "lasy"; did you mean "lazy"?'],
    ),
    (
        '"192.0.2.10/24"',
        '"192.0.2.10"',
        [
            "6: cluster.addresses[1].address: "
            'expected an address with the length of its prefix such as "192.0.2.10/24", '
            'found "192.0.2.10"',
            "10: warning",
        ],
    ),
    (
        'link = "outer"\n',
        'link = "outer"\n[[cluster.addresses]]\naddress = "192.0.2.10/32"\nlink = "outer"\n',
        ["9: cluster.addresses[2].address: 192.0.2.10 stands here for the second time"],
    ),
    (
        '"192.0.2.10/24"',
        '"192.0.2.11/24"',
        [
            "10: warning: connections.paris.local: 192.0.2.10 is no shared address of the cluster: "
            "its tunnels end with the member"
        ],
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), CLUSTER_MISTAKES)
def test_mistakes_in_the_cluster(complaints: Any, old: str, new: str, expected: list[str]) -> None:
    found = complaints((CLUSTER + GOOD).replace(old, new, 1))
    expected = [f"policy.toml:{line}" for line in expected if line != "10: warning"]
    assert found == expected


def test_all_mistakes_come_at_once_in_the_order_of_the_file(complaints: Any) -> None:
    found = complaints(
        textwrap.dedent("""\
        [connections.paris]
        remote = "nowhere"
        auth = "magic"
        rekey = "soon"
        psk_file = "absent"
        [connections.paris.children.lan]
        local = "10.1.0.0/99"
        remote = "10.2.0.0/16"
        start = 1
        [[rules]]
        action = "bypass"
        remote = "x"
        """)
    )
    assert [line.split(": ")[0].removeprefix("policy.toml:") for line in found] == [*list("1234579"), "12"]


def test_problems_are_bounded(complaints: Any) -> None:
    assert len(complaints("".join(f"key{number} = 1\n" for number in range(5000)))) == MAX_PROBLEMS


def test_error_is_a_policy_error_with_the_problems(secrets: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy(secrets / "absent.toml")
    assert isinstance(caught.value, ConfigError)
    (problem,) = caught.value.problems
    assert (problem.line, problem.text) == (0, "cannot read the file: no such file or directory")


def test_secrets_are_not_shown(load: Any) -> None:
    loaded = load(GOOD)
    assert "of good length" not in repr(loaded)


def test_values_in_messages_are_short_and_on_one_line() -> None:
    assert shown("x" * 100) == '"' + "x" * 56 + "..."
    assert shown("a\nb\x1b[31m") == '"a?b?[31m"'
    assert nearest_name("x" * 100000, ["remote"]) == ""
