"""forecastd: a stateful LSTM forecaster beside your message broker."""

__version__ = "0.1.0"
