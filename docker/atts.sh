#!/bin/bash
# The `atts` command of an image, where the project lies in /opt/atts.
exec python -m services.cli "$@"
