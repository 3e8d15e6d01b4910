"""Asynchronous test-time scaling: the algorithm, free of any server, framework or model library.

Read in this order: `types`, `engine`, `scoring`, `calibration`, `acceptance`, `candidate`,
`scaling`, `aggregation`.
"""
