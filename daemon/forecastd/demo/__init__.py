"""A real Kafka from Python packages alone, and the tour that runs on it; the daemon needs neither.

Everything here sits behind the extra `forecastd[demo]`.
"""
