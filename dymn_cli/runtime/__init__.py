"""Who computes: one small contract, and the runtimes that keep it."""
