"""Graphs: edits, cost, shapes, operator sets; channels, gates and branches have rooms of their own."""
