"""In-memory twins of what `ports.py` names: for tests, and for forecasting a file."""
