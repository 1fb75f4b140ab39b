"""Speed and memory against peers, measured in one run: `python -m benchmarks.training`."""
