"""Which channels of a network belong together, and removing or renumbering them."""
