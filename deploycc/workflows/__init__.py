"""What the Python API and the command line both call: typed values in, typed results out."""
