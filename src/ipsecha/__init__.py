"""ipsecha: an IKEv2/IPsec gateway that is a cluster."""

__version__ = "0.1.0"
