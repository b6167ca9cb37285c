"""Named weights: what there is, where it lies, and reading it safely."""
