"""A compiled folder as a signed bundle, and the forms in which images take it."""
