"""Training: distillation, fine-tuning and evaluation."""
