"""What a training writes down of itself: rows, events, curves and a page."""
