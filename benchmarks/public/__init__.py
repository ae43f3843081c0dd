"""``onnxpress quantize`` on models of public packages that nothing here was tuned on."""
