"""Win rates of any domain whose rows answer the prompts of preference pairs."""
