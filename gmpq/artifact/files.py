"""The names of the files of an output directory."""

MODEL = "model.onnx"
GRAPH, SAMPLES, POLICY = "graph.safetensors", "samples.safetensors", "policy.json"
PARITY, LATENCY = "parity.json", "latency.json"
