"""Evaluation: predictions and ground truth to metrics, thresholds and plots; without torch."""
