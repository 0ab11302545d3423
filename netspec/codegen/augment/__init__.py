"""What is drawn anew for every training image, as operators: geometry, colour, a cut-out square."""
