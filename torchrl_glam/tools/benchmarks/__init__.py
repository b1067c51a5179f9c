"""The cost of each part of training, against named baselines in the same process: ``examples/benchmark.py``."""
