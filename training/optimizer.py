"""The optimizer of a run: schedule, weight decay, clipping, and the loss scale of float16.

It takes gradients that are summed over the replicas already. Keras sums them itself, but only
after it has clipped them and looked for overflow (3.15, `Optimizer.apply`), which would clip each
replica's part by its own norm: N replicas would no longer give the numbers of one.
"""

from typing import Any

import keras

from training.network.mixed_precision import NumberType
from training.network.presets import Preset
from training.schedule import Schedule


class _Summed:
    """Mixed into a Keras optimizer: no sum over the replicas."""

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> list[Any]:
        return list(grads_and_vars)


class SGD(_Summed, keras.optimizers.SGD):
    """Gradient descent with momentum."""


class AdamW(_Summed, keras.optimizers.AdamW):
    """Adam with decoupled weight decay (arXiv 1711.05101)."""


def build_optimizer(
    preset: Preset, schedule: Schedule, clip_norm: float, number_type: NumberType
) -> keras.optimizers.Optimizer:
    """The preset's optimizer, with the rates of a schedule.

    Args:
        clip_norm: largest norm of all gradients together, 0 for any. It is the norm of the global
            batch's gradient, without the loss scale.
        number_type: float16 has so small a range that the loss is scaled up, as far as the
            gradients stay finite (arXiv 1710.03740, section 3.2); a step that went too far is
            left out.
    """
    rate = schedule.rates(preset.final_rate)
    options = {"weight_decay": preset.weight_decay, "global_clipnorm": clip_norm or None}
    if preset.optimizer == "sgd":
        optimizer = SGD(rate, momentum=0.9, **options)
    else:
        optimizer = AdamW(rate, **options)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "scale"])
    if number_type == "float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer
