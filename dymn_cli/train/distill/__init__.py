"""DistillTask: a student learns from the scores of its teachers."""
