"""Turns a torch module and a loss into the ONNX graphs a device trains, evaluates and predicts with."""
