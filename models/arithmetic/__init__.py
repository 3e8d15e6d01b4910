"""Arithmetic chains in words, worked step by step by a small draft and a larger target."""
