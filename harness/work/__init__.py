"""Stage functions: they run in worker processes and write artefacts. One module per hash."""
