"""The second renderer: draws the same scenes and shares no drawing code with the one used in training."""
