"""QualiCLIP: a ResNet CLIP without positions, and prompt pairs about quality."""
