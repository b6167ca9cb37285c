"""Export models to ONNX: the graph of an architecture, and a self-contained file."""
