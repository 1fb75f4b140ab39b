"""Stage functions of dialogue; they run in worker processes."""
