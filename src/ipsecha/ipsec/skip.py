"""A jump of outbound sequence numbers that the peer asks for (RFC 6311 section 5.2): it is a cluster that has failed
over and cannot know what it has received.

Within the rules that bound our own use of numbers: what is behind the jump waits for its lease like any other packet,
and a jump never eats up the numbers.  Where there is no room for it, a rekey serves the peer as well: numbers begin
anew.
"""

from __future__ import annotations

from ipsecha.ipsec.sad import Sad

LARGEST_SKIP = 1 << 30
"""With extended sequence numbers a receiver infers the high half: jumps near 2^32 would make it lose step."""


def skip_outbound(sad: Sad, spi_in: int, delta: int, now: float) -> bool:
    """Go on ``delta`` numbers further, on the child SA with this inbound SPI; False: it is to be rekeyed instead, or is
    not ours any more."""
    live = sad.adopt(spi_in)
    if live is None:
        return False
    number = live.next_out + delta
    if delta > LARGEST_SKIP or number > min(live.soft_number, live.out_lease.end):
        sad.events.must_rekey(spi_in)
        return False
    live.next_out = number
    if number > live.out_lease.mark:
        sad.may_send(live, now)  # asks for the lease now, so that the next packet need not wait for it
    return True
