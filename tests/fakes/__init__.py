"""Stand-ins for tests of the upper rooms: an engine in pure Python, without any package behind it."""
