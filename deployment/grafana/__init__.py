"""Grafana's dashboards in code: `python -m deployment.grafana` writes their JSON into the chart.

A dashboard is a module; `panels` knows how ours look, `variables` what they can be narrowed to.
Needs the extra `test`; whoever only uses the dashboards takes the JSON.
"""
