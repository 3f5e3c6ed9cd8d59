"""Networks become ONNX graphs over one copy of the weights."""
