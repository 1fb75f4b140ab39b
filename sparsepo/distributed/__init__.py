"""Several processes: what they agree on, and weights that are sharded over them."""
