"""pycuda of a simulated board: the GPU's memory is this process's."""
