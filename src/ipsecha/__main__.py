"""``python -m ipsecha``: the same as the command ``ipsecha``."""

from ipsecha.cli.main import run

run()
