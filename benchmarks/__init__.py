"""Measurements with their printed tables; nothing here is a test."""
