"""What the embedded weights know, through the service's own request path."""
