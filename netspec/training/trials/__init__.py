"""Looks at a net or its data before, and trainings that are run several times."""
