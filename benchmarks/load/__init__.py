"""The load generator: transports, loops over them, and a look at the answers."""
