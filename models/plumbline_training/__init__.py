"""What made the embedded weights: scenes, captions, foils, a renderer, and the training programs."""
