"""What a network is trained on, as graph functions of Keras.

Every function takes `actual` (B, W, H, 1, targets), NaN where there is no actual (the end of a
series has fewer than H following steps), and `output` (B, W, H, Q, targets), both in spreads of
the series from its anchor. It returns the mean over the actuals that exist, one number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from forecastd.keras_runtime import keras, tf

Tensor = Any
"""A tensor of TensorFlow, which has no types of its own."""

Loss = Literal["pinball", "huber", "mse", "mae"]
LossFunction = Callable[[Tensor, Tensor], Tensor]

HUBER_DELTA = 1.0
"""Error, in spreads, up to which the Huber loss is quadratic."""


def loss_function(loss: Loss, quantiles: Sequence[float]) -> LossFunction:
    """The loss by its name in `training.loss`.

        pinball  sum over the quantiles q of max(q * e, (q - 1) * e);  no factor 2: at q = 0.5
                 this is half the absolute error (Koenker and Bassett, Econometrica 46, 1978)
        huber    e * e / 2 while |e| <= 1, |e| - 1 / 2 beyond (Huber, Ann. Math. Stat. 35, 1964)
        mse      e * e
        mae      |e|

    with e = actual - output. All but pinball have one output, Q = 1.
    """
    levels = tf.reshape(tf.constant(quantiles or [0.5], tf.float32), (-1, 1))
    of_error: dict[Loss, Callable[[Tensor], Tensor]] = {
        "pinball": lambda error: tf.maximum(levels * error, (levels - 1.0) * error),
        "huber": lambda error: tf.where(
            tf.abs(error) <= HUBER_DELTA,
            0.5 * tf.square(error),
            HUBER_DELTA * (tf.abs(error) - 0.5 * HUBER_DELTA),
        ),
        "mse": tf.square,
        "mae": tf.abs,
    }
    of_one = of_error[loss]

    def mean_loss(actual: Tensor, output: Tensor) -> Tensor:
        error, exists = _errors(actual, output)
        return _mean(tf.reduce_sum(of_one(error), axis=-2, keepdims=True), exists)

    return mean_loss


def median_error(quantiles: Sequence[float]) -> LossFunction:
    """Absolute error of the median as it is published: the quantiles of a lead sorted first."""
    middle = list(quantiles).index(0.5) if quantiles else 0

    def mean_error(actual: Tensor, output: Tensor) -> Tensor:
        if len(quantiles) > 1:
            output = tf.sort(output, axis=-2)
        error, exists = _errors(actual, output[..., middle : middle + 1, :])
        return _mean(tf.abs(error), exists)

    return mean_error


def adam(learning_rate: float) -> Any:
    """Adam, with the norm of the whole gradient held to 1: one odd batch must not undo the rest."""
    return keras.optimizers.Adam(learning_rate, global_clipnorm=1.0)


def _errors(actual: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """Errors, 0 where there is no actual, and which exist."""
    exists = tf.math.is_finite(actual)
    # The inner choice keeps NaN out of the gradient, which flows through both branches.
    error = tf.where(exists, actual, tf.zeros_like(actual)) - output
    return tf.where(exists, error, tf.zeros_like(error)), exists


def _mean(losses: Tensor, exists: Tensor) -> Tensor:
    count = tf.reduce_sum(tf.cast(exists, losses.dtype))
    return tf.math.divide_no_nan(tf.reduce_sum(losses), count)
