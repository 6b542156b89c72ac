"""The cluster core, sans-IO: epochs, death detection, replication, takeover and switchover of a pair of members."""
