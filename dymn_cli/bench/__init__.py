"""How fast it is, here: `run_bench` measures, `Report` says it."""
