"""The version of extism-engines, in one place."""

__version__ = "0.1.0"
