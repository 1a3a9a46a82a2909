"""Recipes: from pictures to a bundle, seeded, resumable. `classify` is the general one, the others are its settings."""
