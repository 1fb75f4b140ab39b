"""What is known of a model from outside: its modules, activations, adapters."""
