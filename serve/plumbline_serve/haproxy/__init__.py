"""The HAProxy in front: how it is configured, started in Ray's way, and given certificates."""
