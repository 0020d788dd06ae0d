"""Small heads on the encodings of other networks: a few layers in numpy, and the layouts that they are published in."""
