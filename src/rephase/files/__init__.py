"""Files and downloads, with every error as an error of the domain: reading, atomic writing, checksums, requests."""
