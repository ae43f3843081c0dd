"""Between a file and the graph in memory: reading, writing in one step, and what onnx-ir does not carry."""
