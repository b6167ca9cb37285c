"""Benchmark dymn on this machine: `run_bench` measures, a `Report` holds the figures."""
