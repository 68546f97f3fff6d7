"""Programs that run the integer graph: the reference, torch, onnxruntime and TVM."""
