"""A recogniser as ONNX graphs, for programs without torch: the encoder with its CTC head, and a step of the decoder."""
