"""The daemon: sockets, timers, the synch channel, shared addresses, configuration and control."""
