"""What each word adds to a cosine: CLIP's text tower, forward and backward."""
