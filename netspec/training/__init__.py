"""Training: the loop and how it is launched; its parts in packages of their own."""
