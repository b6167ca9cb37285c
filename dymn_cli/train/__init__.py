"""Training: the engine that distillation and fine-tuning share, and a package for each of them."""
