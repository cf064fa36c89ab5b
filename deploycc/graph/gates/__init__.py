"""Finding kernel gates in a network, and networks whose gates are fixed."""
