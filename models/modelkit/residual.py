"""A float residual network (ResNet-8 of MLPerf Tiny) trained by itself: the rival of a ternary network, and a stage beside it.

conv 3x3 - 3 blocks of two 3x3 convolutions with a shortcut (1x1, stride 2 where the width changes) - mean - dense; batch normalisation
after each convolution (Banbury et al., "MLPerf Tiny Benchmark", 2021; He et al. 2016). Trained as `modelkit.train` trains the
float phase of a ternary network, with the same views, so that the two can be compared. TensorFlow is imported on use.
"""

import io
import time
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass

import numpy as np

from modelkit import stages
from modelkit.data import augment, shifts_within, view_table
from modelkit.train import cosine, tensorflow

EPSILON = 1e-3


@dataclass(frozen=True)
class ResidualSettings:
    """Shape and training: `widths` of the blocks, the first also of the first convolution; the rest as in `TernarySettings`."""

    widths: tuple = (16, 32, 64)
    epochs: int = 16
    peak: float = 0.2
    batch: int = 128
    reach: int = 3
    flips: bool = True
    momentum: float = 0.9
    weight_decay: float = 5e-4
    half: bool = True

    def training_table(self, shape):
        """Index table of the views that training draws from."""
        return view_table(*shape[:2], shifts_within(self.reach), (False, True) if self.flips else (False,))

    def convolutions(self, channels):
        """(kernel, inputs, outputs, stride, role) of each convolution; role: "first", "a", "b" or "shortcut"."""
        plan = [(3, channels, self.widths[0], 1, "first")]
        before = self.widths[0]
        for width in self.widths:
            stride = 1 if width == before else 2
            plan += [(3, before, width, stride, "a"), (3, width, width, 1, "b")]
            if width != before:
                plan.append((1, before, width, stride, "shortcut"))
            before = width
        return plan

    def macs(self, shape, classes):
        """Multiply-accumulates of one frame."""
        side, total = shape[0] * shape[1], 0
        for kernel, inputs, outputs, stride, role in self.convolutions(shape[2]):
            side //= stride * stride if role == "a" else 1
            total += side * kernel * kernel * inputs * outputs
        return total + self.widths[-1] * classes


class Residual:
    """Weights of the network and its forward pass; `state` and `restore` as in `TernaryNet`."""

    def __init__(self, shape, classes, settings, seed):
        self.tf, self.settings, self.shape, self.classes = tensorflow(), settings, tuple(shape), classes
        tf, rng = self.tf, np.random.default_rng([seed, 6])
        self.layers = []
        for kernel, inputs, outputs, stride, role in settings.convolutions(shape[2]):
            first = rng.normal(0, np.sqrt(2 / (kernel * kernel * inputs)), (kernel, kernel, inputs, outputs))
            layer = {"stride": stride, "role": role, "w": tf.Variable(first.astype(np.float32))}
            for name, value in (("gamma", 1), ("beta", 0), ("mean", 0), ("var", 1)):
                layer[name] = tf.Variable(np.full(outputs, value, np.float32), trainable=name in ("gamma", "beta"))
            self.layers.append(layer)
        wide = settings.widths[-1]
        last = rng.normal(0, np.sqrt(1 / wide), (wide, classes)).astype(np.float32)
        self.layers.append({"role": "last", "w": tf.Variable(last), "beta": tf.Variable(np.zeros(classes, np.float32))})

    def variables(self):
        """What is trained."""
        return [layer[name] for layer in self.layers for name in ("w", "gamma", "beta") if name in layer]

    def state(self):
        """All numbers, as a flat dict of arrays."""
        return {f"{i}.{k}": v.numpy() for i, layer in enumerate(self.layers) for k, v in layer.items() if hasattr(v, "assign")}

    def restore(self, state):
        """Load what `state` gave."""
        for key, value in state.items():
            index, name = key.split(".")
            self.layers[int(index)][name].assign(value)

    def forward(self, frames, training=False):
        """Logits float32 [n, classes] of float32 frames [n, h, w, c] of 0 to 255."""
        tf = self.tf
        half = training and self.settings.half
        x = frames / stages.PIXEL
        x = tf.nn.relu(self._normal(self.layers[0], tf.cast(x, tf.bfloat16) if half else x, training))
        for a, b, shortcut in blocks(self.layers):
            y = self._normal(b, tf.nn.relu(self._normal(a, x, training)), training)
            x = tf.nn.relu(y + (self._normal(shortcut, x, training) if shortcut else x))
        last = self.layers[-1]
        return tf.matmul(tf.reduce_mean(tf.cast(x, tf.float32), (1, 2)), last["w"]) + last["beta"]

    def _normal(self, layer, x, training):
        """Convolution and batch normalisation; the running mean and variance move when training."""
        tf = self.tf
        z = tf.nn.conv2d(x, tf.cast(layer["w"], x.dtype), layer["stride"], "SAME")
        if not training:
            gain = layer["gamma"] * tf.math.rsqrt(layer["var"] + EPSILON)
            return z * gain + (layer["beta"] - layer["mean"] * gain)
        z, mean, var = tf.compat.v1.nn.fused_batch_norm(z, layer["gamma"], layer["beta"], epsilon=EPSILON, is_training=True)
        layer["mean"].assign(0.95 * layer["mean"] + 0.05 * mean)
        layer["var"].assign(0.95 * layer["var"] + 0.05 * var)
        return z


def blocks(layers):
    """(a, b, shortcut or None) of each block."""
    found = []
    for layer in layers:
        if layer["role"] == "a":
            found.append([layer, None, None])
        elif layer["role"] in ("b", "shortcut"):
            found[-1][1 if layer["role"] == "b" else 2] = layer
    return found


def fit(net, frames, labels, seed, say=None, keep=None):
    """Train in place on uint8 frames [n, h, w, c]: SGD with Nesterov momentum, a fresh random view of each picture each epoch.

    keep: a `modelkit.train.Epochs`, where a killed training is found again.
    """
    tf, settings, trained = net.tf, net.settings, net.variables()
    optimizer = tf.keras.optimizers.SGD(settings.peak, momentum=settings.momentum, nesterov=True)
    optimizer.build(trained)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            logits = net.forward(tf.cast(x, tf.float32), training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        grads = tape.gradient(loss, trained)
        grads = [g + settings.weight_decay * v if len(v.shape) > 1 else g for g, v in zip(grads, trained, strict=True)]
        optimizer.apply_gradients(zip(grads, trained, strict=True))
        return loss

    table = settings.training_table(frames.shape[1:])
    labels = labels.astype(np.int32)
    n, batch, epochs = len(frames), settings.batch, settings.epochs
    steps = n // batch
    done, _ = keep.load("residual", net, optimizer) if keep else (0, 0.0)
    for epoch in range(done, epochs):
        rng = np.random.default_rng([seed, 8, epoch])
        order, seen = rng.permutation(n), augment(frames, table, rng)
        losses, started = [], time.monotonic()
        for i in range(steps):
            optimizer.learning_rate.assign(cosine(epoch * steps + i, epochs * steps, settings.peak))
            rows = order[i * batch : (i + 1) * batch]
            losses.append(step(seen[rows], labels[rows]))
        mean = float(np.mean([float(v) for v in losses]))
        if keep:
            keep.save("residual", epoch + 1, mean, net, optimizer)
        if say:
            say(f"residual {epoch + 1}/{epochs}: loss {mean:.4f} ({time.monotonic() - started:.0f} s)")


def outputs(net, frames, batch=500):
    """Float32 logits [n, classes] of uint8 frames [n, h, w, c], in float32 throughout."""
    run = net.tf.function(lambda x: net.forward(net.tf.cast(x, net.tf.float32)))
    return np.concatenate([run(frames[i : i + batch]).numpy() for i in range(0, len(frames), batch)])


def to_tflite(net, frames, factor=1.0):
    """Bytes of the full-integer TFLite file whose output is `factor` times the network's, calibrated on uint8 `frames`.

    Raises modelkit.stages.StageError when the input is not int8 = pixel - 128.
    """
    tf = net.tf
    import keras

    def convolution(layer, x, relu):
        gain = layer["gamma"].numpy() / np.sqrt(layer["var"].numpy() + EPSILON)
        kernel, offset = layer["w"].numpy() * gain, layer["beta"].numpy() - layer["mean"].numpy() * gain
        if layer["role"] == "first":
            kernel = kernel / stages.PIXEL  # pixels come as they are
        made = keras.layers.Conv2D(kernel.shape[-1], kernel.shape[0], strides=layer["stride"], padding="same")
        x = made(x)
        made.set_weights([kernel, offset])
        return keras.layers.ReLU()(x) if relu else x

    x = inputs = keras.Input(batch_shape=(1, *net.shape))
    x = convolution(net.layers[0], x, True)
    for a, b, shortcut in blocks(net.layers):
        y = convolution(b, convolution(a, x, True), False)
        x = keras.layers.ReLU()(keras.layers.Add()([y, convolution(shortcut, x, False) if shortcut else x]))
    last = keras.layers.Dense(net.classes)
    logits = last(keras.layers.GlobalAveragePooling2D()(x))
    last.set_weights([net.layers[-1]["w"].numpy() * factor, net.layers[-1]["beta"].numpy() * factor])

    def pictures():
        span = frames[:1].copy()
        span[0, 0, 0, 0], span[0, -1, -1, -1] = 0, 255  # so that the input's range is 0..255 exactly
        for frame in np.concatenate([span, frames]):
            yield [frame[None].astype(np.float32)]

    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(inputs, logits))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = pictures
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # a page of text about the graph, at each conversion
        warnings.simplefilter("ignore")
        data = converter.convert()
    found = stages.Stage(data).input_quantisation
    if found != (1.0, -128):
        raise stages.StageError(f"input quantisation is {found}, expected (1.0, -128)")
    return data
