"""Data sets: recordings, their labels and folds, and the cache of decoded audio; without torch."""
