"""Nouns: identities, SPIs, selectors, proposals, policies, records, effects and errors.  No I/O, no crypto."""
