"""A good policy, and how tests spoil it."""

from __future__ import annotations

GOOD = """\
[connections.paris]
local = "192.0.2.10"
remote = "203.0.113.7"
psk_file = "paris.psk"

[connections.paris.children.lan]
local = "10.1.0.0/16"
remote = "10.2.0.0/16"
"""
CHILD = "connections.paris.children.lan"
LAST = 'remote = "10.2.0.0/16"'
CONNECTION = 'psk_file = "paris.psk"'


def edited(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)
