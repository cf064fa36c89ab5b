"""Reading and describing graphs: cost, shapes, channel rules, parser support."""
