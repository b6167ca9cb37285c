"""Models as ONNX: the graph of an architecture, and a self-contained file of a model."""
