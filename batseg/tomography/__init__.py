"""X-ray tomography: simulated scans of labelled structures, and reconstruction of measured and simulated scans."""
