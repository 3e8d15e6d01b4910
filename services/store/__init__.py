"""Calibration scores in a database: its schema, its migrations, and what is done with it."""
