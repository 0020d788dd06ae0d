"""Each scorer beside a straightforward program."""
