"""What target parsers accept, by TensorRT release: operators, attributes, opsets and types."""
