"""The conformance suite: its cases, guests and runner; installed as ``extism_engines.suite``."""
