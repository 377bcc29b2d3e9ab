"""Loads Keras and TensorFlow, with what must be decided before they are loaded.

Every file that needs them takes them from here. Whoever runs a process may say otherwise in its
environment; these are TensorFlow's own variables, not settings of forecastd.
"""

from __future__ import annotations

import os

from forecastd.errors import ModelError
from forecastd.glibc_malloc import give_back_large_blocks

# A network of this size gains nothing from a second thread: the same call takes longer and more CPU
# (310 windows: 2.3 ms on one, 3.0 ms on two), and the other core is wanted by the broker's client.
_DEFAULTS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)
if "MALLOC_MMAP_THRESHOLD_" not in os.environ:  # glibc's own variable
    give_back_large_blocks()
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
