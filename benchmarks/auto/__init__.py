"""`onnxpress auto` against what was asked of it: limits kept, costs foretold, and a front that chance does not beat."""
