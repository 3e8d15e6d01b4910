"""Traces: a span a request, run, candidate, stage and engine call, for OpenTelemetry.

The router makes its spans from the events of runs. Only ids are needed earlier: a call to a model
server carries the id of the stage it belongs to, and the stage's span gets that id when it ends.
"""
