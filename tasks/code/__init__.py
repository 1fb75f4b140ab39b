"""Code generation: problems with tests, BigCode's conventions, programs for the sandbox."""
