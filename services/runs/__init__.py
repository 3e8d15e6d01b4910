"""Runs by their id: shared by several clients, kept, cancelled, known again by a key."""
