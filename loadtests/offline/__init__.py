"""Many images without a service: what memory they take, and how fast they go."""
