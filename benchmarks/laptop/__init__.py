"""The two real models of a laptop, trained and sampled: `python -m benchmarks.laptop`."""
