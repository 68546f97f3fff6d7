"""The integer graph in onnxruntime, at every optimization level."""
