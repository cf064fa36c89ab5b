"""What the parsers of TensorRT take, by release: operators, attributes, opsets and types."""
