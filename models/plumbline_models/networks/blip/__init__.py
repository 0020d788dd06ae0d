"""ImageReward's BLIP: an image tower, and a text encoder that reads the image in every layer and ends in a reward."""
