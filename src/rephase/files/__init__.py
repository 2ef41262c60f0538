"""Files and the web, with every error as one of the domain: read, written whole, checked, downloaded."""
