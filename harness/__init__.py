"""The command that runs the experiments: stages, their store, engines, profiles and tables."""
