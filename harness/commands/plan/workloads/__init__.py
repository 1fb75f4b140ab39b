"""The work of every stage function, one file per domain."""
