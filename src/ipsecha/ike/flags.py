"""Flags as plain integers: arithmetic with IntFlag members costs more than all else in a message's path."""

from __future__ import annotations

from ipsecha.model.records import IkeFlag

LOCAL_NAT = int(IkeFlag.LOCAL_NAT)
REMOTE_NAT = int(IkeFlag.REMOTE_NAT)
ENCAPSULATE = int(IkeFlag.ENCAPSULATE)
FRAGMENTATION = int(IkeFlag.FRAGMENTATION)
MESSAGE_ID_SYNC = int(IkeFlag.MESSAGE_ID_SYNC)
REPLAY_COUNTER_SYNC = int(IkeFlag.REPLAY_COUNTER_SYNC)
CLOSING = int(IkeFlag.CLOSING)
REKEYED = int(IkeFlag.REKEYED)
CLOSED = int(IkeFlag.CLOSED)
OPEN = int(IkeFlag.OPEN)
CHANGING = int(IkeFlag.CHANGING)
IN_DOUBT = int(IkeFlag.IN_DOUBT)
LEAVING = CLOSING | REKEYED | CLOSED
UNSURE = OPEN | CHANGING | IN_DOUBT
