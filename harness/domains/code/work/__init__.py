"""Stage functions of code; they run in worker processes."""
