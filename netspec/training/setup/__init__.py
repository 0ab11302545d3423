"""What a training is about: nets, options and the data they train and test on."""
