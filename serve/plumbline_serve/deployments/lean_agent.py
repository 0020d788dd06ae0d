"""The program in the place of Ray's agents where a service has a machine to itself.

Ray's node must have them, and ends when one of them does. This one ends when the node does: its standard input is a
pipe of the node's. It is run by its path in a bare interpreter, and imports nothing of ours.
"""

import sys

if __name__ == "__main__":
    sys.stdin.buffer.read()
