"""Octets to values and back: IKE header, payload chain, payloads, SK and SKF framing, ESP header, inner IP packets.

No crypto, no state.  Parsers take ``bytes`` from anyone and raise ``WireError`` only; builders raise ``WireError``
where a length or a count does not fit its field; code points are the callers' own and are trusted.
"""
