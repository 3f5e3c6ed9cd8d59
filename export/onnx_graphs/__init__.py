"""Turn networks into ONNX graphs over one copy of the weights."""
