"""Engines: what stands behind the `Engine` protocol and runs or reaches a real model."""
