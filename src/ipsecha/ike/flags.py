"""Flags as plain integers: arithmetic with IntFlag members costs more than all else in a message's path."""

from __future__ import annotations

from ipsecha.model.records import IkeFlag

LOCAL_NAT = int(IkeFlag.LOCAL_NAT)
REMOTE_NAT = int(IkeFlag.REMOTE_NAT)
ENCAPSULATE = int(IkeFlag.ENCAPSULATE)
FRAGMENTATION = int(IkeFlag.FRAGMENTATION)
CLOSING = int(IkeFlag.CLOSING)
REKEYED = int(IkeFlag.REKEYED)
CLOSED = int(IkeFlag.CLOSED)
LEAVING = CLOSING | REKEYED | CLOSED
