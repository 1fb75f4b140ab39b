"""Stage functions of sentiment; they run in worker processes."""
