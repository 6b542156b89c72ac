"""IKEv2 (RFC 7296), sans-IO: messages and `now` go in, ordered effects come out.

``endpoint`` holds the tables and takes what arrives; ``window`` runs the exchanges of established IKE SAs; each
exchange has a file of its own, with both roles.
"""
