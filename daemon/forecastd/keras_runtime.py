"""Loads Keras and TensorFlow, with what must be decided before they are loaded.

Every file that needs them takes them from here. Whoever runs a process may say otherwise in its
environment; these are TensorFlow's own variables, not settings of forecastd.
"""

from __future__ import annotations

import os

from forecastd.errors import ModelError

_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

# A network of this size gains nothing from more than two threads, and a host with many cores would
# spend its time waking them up.
_DEFAULTS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_NUM_INTRAOP_THREADS": str(min(2, _cores)),
    "TF_NUM_INTEROP_THREADS": "1",
}
for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)
os.environ["KERAS_BACKEND"] = "tensorflow"  # a user's ~/.keras/keras.json may name another

try:
    import keras
    import tensorflow as tf
except ImportError as error:
    raise ModelError(
        f"models: {error}, wanted TensorFlow; install it with pip install 'forecastd[cpu]'"
    ) from error

# Its warnings are about code like ours ("triggered tf.function retracing"), not for an operator.
tf.get_logger().setLevel("ERROR")

__all__ = ["keras", "tf"]
