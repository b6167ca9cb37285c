"""Many sources: finding them, in order."""
