"""Random molecular crystals, many at once, and their structure factors."""
