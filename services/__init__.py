"""What runs: engines, Serve deployments, HTTP, storage, the command line."""
