"""Imprecise computation: a mandatory part proven in time, optional stages where they fit. Read `engine.py` first."""
