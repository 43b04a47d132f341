"""What several networks are built of: batch normalisation, and convolutions with it."""

import tensorflow as tf
from keras import layers


class BatchNormalization(layers.BatchNormalization):
    """Keras' layer over all replicas; on a single one through TensorFlow's fused kernel.

    The same numbers, but the activations are read and written half as often: a sixth of the
    compact preset's training step on a CPU. A layer that is not `trainable` uses its moving mean
    and variance and leaves them as they are, in training too.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        fused = training and self.trainable and context is not None
        if not fused or context.num_replicas_in_sync > 1:
            return super().call(inputs, training=training)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma.value, self.beta.value, epsilon=self.epsilon, is_training=True
        )
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
        variance *= (count - 1.0) / count  # the kernel gives the unbiased one
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1.0 - self.momentum))
        return outputs


def norm(x: tf.Tensor, name: str) -> tf.Tensor:
    """Batch normalisation over all replicas.

    Synchronised: 1 replica with batch 16 and 8 replicas with batch 2 train the same network.
    """
    return BatchNormalization(synchronized=True, momentum=0.97, epsilon=1e-3, name=f"{name}_norm")(
        x
    )


def conv(
    x: tf.Tensor,
    name: str,
    filters: int,
    kernel: int = 3,
    is_normed: bool = True,
    largest: float | None = None,
    **options: object,
) -> tf.Tensor:
    """Convolution, batch normalisation, ReLU; `largest` is 6 for ReLU6."""
    options = {
        "padding": "same",
        "use_bias": not is_normed,
        "kernel_initializer": "he_normal",
    } | options
    x = layers.Conv2D(filters, kernel, name=name, **options)(x)
    return layers.ReLU(largest)(norm(x, name) if is_normed else x)


def add_from_above(fine: tf.Tensor, coarse: tf.Tensor) -> tf.Tensor:
    """One step of a top-down path: the coarse map, doubled and cut to size, onto the fine one."""
    doubled = layers.UpSampling2D(2)(coarse)
    excess = int(doubled.shape[1]) - int(fine.shape[1])
    if excess:
        doubled = layers.Cropping2D(((0, excess), (0, excess)))(doubled)
    return layers.Add()([fine, doubled])
