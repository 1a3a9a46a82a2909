"""Puts this folder on the import path, so that tests import `reference` and other shared helpers by name."""
