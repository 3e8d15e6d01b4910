"""What is measured: names in `catalogue`, values from events, handed on by `board`."""
