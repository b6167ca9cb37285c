"""The runtimes: one interface, on onnxruntime or PyTorch."""
