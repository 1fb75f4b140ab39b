"""What should be checked on a GPU, in one command: `python -m benchmarks.gpu`."""
