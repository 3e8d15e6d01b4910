"""What is configured: the composition root, Serve configurations, dashboards."""
