"""Tests of this package, by room."""
