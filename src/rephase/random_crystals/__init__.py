"""Random molecular crystals, generated many at a time, and their structure factors."""
