"""The memory of requests under way: its budget, what has arrived, and giving it back."""
