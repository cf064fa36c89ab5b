"""How long a network takes on a board that is not here: launches, what bounds each, and the time with its interval."""
