"""Algorithms by transform: PRFs, key derivation, key exchange, message and packet protection, authentication.

No state of IKE or ESP, no I/O, no clock; entropy is injected.  Raises CryptoError.
"""
