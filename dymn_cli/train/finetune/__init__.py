"""Fine-tuning: a linear head, or the whole network, for the labels of a data set."""
