"""Measurements of ipsecha: ``make bench``, or ``python -m bench --help``."""
