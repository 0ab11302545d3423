"""What a trained net says of samples, and how right it is."""
