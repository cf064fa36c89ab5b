"""Graphs: edits, cost, shapes and operator sets, with rooms for channels, gates and branches."""
