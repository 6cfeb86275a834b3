"""What the tests stand on: the real program, a client of its interface, and the checker of answers."""
