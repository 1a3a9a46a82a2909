"""Refinement stages: small convolutional networks whose output is added to the logits so far (stacking).

A stage learns softmax cross-entropy of `offset + stage(frame)`, where the offset, the logits that are already there when it
runs, is fixed. It becomes a full-integer TFLite file: input `[1, h, w, c]` int8 = `uint8 ^ 0x80` (scale 1, zero-point -128),
output `[1, classes]` int8. With several views the file itself makes shifted and mirrored copies of the frame (one
GATHER), runs the network on all of them and gives the mean. TensorFlow is imported on use.
"""

import io
import time
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass

import numpy as np

from modelkit.data import augment, shifts_within, view_table
from modelkit.fold import cross_entropy
from modelkit.train import cosine, tensorflow

PIXEL = 64.0
"""Pixels are divided by this in training; the file takes them as they are, its first kernel is divided instead."""


class StageError(Exception):
    """A stage's file is not what the bundle needs (quantisation of the input, a type, an operator)."""


@dataclass(frozen=True)
class StageSettings:
    """Shape and training of a stage.

    plan: (channels, pool) of each 3x3 convolution, pool 2 for a 2x2 max pool after it, 1 for none. hidden: units of
    a dense layer after them, 0 for none; a dense layer of logits ends it. views: how
    many shifted and mirrored copies run inside the file (1: the frame as it is). reach: shifts in training, pixels. ramp: the
    offset grows from nought to its full size over this share of the training; without it most pictures are already right, give hardly
    a gradient, and the stage learns no features of its own.
    """

    plan: tuple
    hidden: int = 0
    epochs: int = 12
    peak: float = 3e-3
    batch: int = 128
    reach: int = 2
    flips: bool = True
    dropout: float = 0.1
    ramp: float = 0.6
    weight_decay: float = 5e-4
    views: int = 1

    def training_table(self, shape):
        """Index table of the views that training draws from."""
        return view_table(*shape[:2], shifts_within(self.reach), (False, True) if self.flips else (False,))

    def running_table(self, shape):
        """Index table of the views inside the file: nearest shifts first, each plain and mirrored."""
        flips = (False, True) if self.flips else (False,)
        shifts = shifts_within(self.reach)[: max(1, self.views // len(flips))]
        return view_table(*shape[:2], shifts, flips)[: self.views]

    def macs(self, shape, classes):
        """Multiply-accumulates of one view."""
        h, w, c = shape
        total = 0
        for channels, pool in self.plan:
            total += h * w * 9 * c * channels
            h, w, c = h // pool, w // pool, channels
        size = h * w * c
        return total + (size * self.hidden + self.hidden * classes if self.hidden else size * classes)


def build(shape, classes, settings, seed, batch=None, running=False):
    """Keras model float32 [n, h, w, c] of pixels / 64 -> float32 [n, classes]; the last dense layer starts near nought.

    Each convolution goes through pool, batch normalisation, ReLU; `running` puts the pool last, as in the file, so that the
    converter folds the normalisation into the convolution. With gamma >= 0 (a constraint) the two are the same function with
    the same weights, and the first costs a quarter in training.
    """
    tf = tensorflow()
    import keras

    class FewChannels(keras.layers.Conv2D):
        """The same convolution as columns and a matrix product, which is faster for one to four channels."""

        def call(self, x):
            h, w = x.shape[1:3]
            x = tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            columns = tf.concat([x[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], -1)
            kernel = tf.reshape(tf.convert_to_tensor(self.kernel), (-1, self.filters))
            return tf.reshape(tf.matmul(tf.reshape(columns, (-1, kernel.shape[0])), kernel), (-1, h, w, self.filters))

    class Pool(keras.layers.Layer):
        """2x2 max pool as a reshape: XLA's own is slower."""

        def call(self, x):
            h, w, c = x.shape[1] // 2, x.shape[2] // 2, x.shape[3]
            return tf.reduce_max(tf.reshape(x[:, : 2 * h, : 2 * w], (-1, h, 2, w, 2, c)), (2, 4))

    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input(batch_shape=(batch, *shape))
    for channels, pool in settings.plan:
        few = x.shape[-1] <= 4 and not running
        x = (FewChannels if few else keras.layers.Conv2D)(
            channels, 3, padding="same", use_bias=False, kernel_initializer="he_normal"
        )(x)
        steps = [
            None if pool == 1 else keras.layers.MaxPooling2D(2) if running else Pool(),
            keras.layers.BatchNormalization(momentum=0.95, epsilon=1e-4, gamma_constraint=keras.constraints.NonNeg()),
            keras.layers.ReLU(),
        ]
        for layer in [*steps[1:], steps[0]] if running else steps:
            x = layer(x) if layer else x
    x = keras.layers.SpatialDropout2D(settings.dropout)(x)  # whole channels: random numbers are slow under XLA
    x = keras.layers.Flatten()(x)
    if settings.hidden:
        x = keras.layers.Dense(settings.hidden, use_bias=False, kernel_initializer="he_normal")(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.95, epsilon=1e-4)(x))
    start = keras.initializers.RandomNormal(0, 0.01)
    return keras.Model(inputs, keras.layers.Dense(classes, kernel_initializer=start)(x))


def fit(model, settings, train, check, seed, say=None):
    """Train `model` in place and leave it with the weights of least loss on `check`.

    train, check: (frames uint8 [n, h, w, c], labels [n], offsets float32 [n, classes]). Adam with decoupled weight decay on
    kernels, cosine rate, a fresh random view of each picture each epoch. Returns (loss, accuracy) on `check`.
    """
    tf = tensorflow()
    frames, labels, offsets = train
    labels, offsets = labels.astype(np.int32), offsets.astype(np.float32)
    table = settings.training_table(frames.shape[1:])
    optimizer = tf.keras.optimizers.AdamW(settings.peak, weight_decay=settings.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=True)
    def step(x, y, offset):
        with tf.GradientTape() as tape:
            logits = offset + model(tf.cast(x, tf.float32) / PIXEL, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        grads = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(grads, model.trainable_variables, strict=True))
        return loss

    rng = np.random.default_rng([seed, 5])
    n, batch = len(frames), settings.batch
    steps = n // batch
    best = (cross_entropy(check[2], check[1]), None, None)
    for epoch in range(settings.epochs):
        order = rng.permutation(n)
        seen = augment(frames, table, rng)
        started, losses = time.monotonic(), []
        for i in range(steps):
            optimizer.learning_rate = cosine(epoch * steps + i, settings.epochs * steps, settings.peak)
            rows = order[i * batch : (i + 1) * batch]
            part = min(1.0, (epoch * steps + i) / max(settings.ramp * settings.epochs * steps, 1.0))
            losses.append(step(seen[rows], labels[rows], offsets[rows] * np.float32(part)))
        loss, accuracy = score(check[2] + outputs(model, check[0]), check[1])
        if best[1] is None or loss < best[0]:
            best = (loss, accuracy, model.get_weights())
        if say:
            took = time.monotonic() - started
            say(
                f"stage {epoch + 1}/{settings.epochs}: loss {np.mean(losses):.4f}, "
                f"on V {loss:.4f}, {accuracy:.4f} ({took:.0f} s)"
            )
    model.set_weights(best[2])
    return best[0], best[1]


def score(logits, labels):
    """(mean cross-entropy, accuracy) of logits [n, classes]."""
    return cross_entropy(logits, labels), float(np.mean(logits.argmax(axis=1) == labels))


def outputs(model, frames, batch=500):
    """Float32 outputs [n, classes] of a Keras stage for uint8 frames, one view."""
    tf = tensorflow()
    if not hasattr(model, "_edgert_run"):
        model._edgert_run = tf.function(lambda x: model(tf.cast(x, tf.float32) / PIXEL, training=False), jit_compile=True)
    parts = []
    for i in range(0, len(frames), batch):
        part = frames[i : i + batch]
        full = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), np.uint8)])
        parts.append(model._edgert_run(full).numpy()[: len(part)])
    return np.concatenate(parts)


def to_tflite(model, shape, settings, frames):
    """Bytes of the full-integer TFLite file, calibrated on uint8 `frames` [n, h, w, c] (builtin operators only).

    Raises StageError when the input is not int8 = pixel - 128.
    """
    tf = tensorflow()
    import keras

    table = settings.running_table(shape)

    class Views(keras.layers.Layer):
        def call(self, x):
            flat = tf.reshape(x, (shape[0] * shape[1], shape[2]))
            return tf.reshape(tf.gather(flat, table.ravel()), (len(table), *shape))

    class Mean(keras.layers.Layer):
        def call(self, x):
            return tf.reduce_mean(x, axis=0, keepdims=True)

    many = len(table) > 1
    inner = build(shape, model.output_shape[-1], settings, 0, len(table), running=True)
    weights = model.get_weights()
    inner.set_weights([weights[0] / PIXEL, *weights[1:]])  # pixels come as they are
    inputs = keras.Input(batch_shape=(1, *shape))
    whole = keras.Model(inputs, Mean()(inner(Views()(inputs)))) if many else inner

    def pictures():
        span = frames[:1].copy()
        span[0, 0, 0, 0], span[0, -1, -1, -1] = 0, 255  # so that the input's range is 0..255 exactly
        for frame in np.concatenate([span, frames]):
            yield [frame[None].astype(np.float32)]

    converter = tf.lite.TFLiteConverter.from_keras_model(whole)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = pictures
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # a page of text about the graph, at each conversion
        warnings.simplefilter("ignore")
        data = converter.convert()
    stage = Stage(data)
    if stage.input_quantisation != (1.0, -128):
        raise StageError(f"input quantisation is {stage.input_quantisation}, expected (1.0, -128)")
    return data


class Stage:
    """A stage file under LiteRT, one thread: uint8 frame [h, w, c] -> float32 [classes] to be added to the logits."""

    def __init__(self, data, threads=1):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            from tflite_runtime.interpreter import Interpreter

        self.interpreter = Interpreter(model_content=data, num_threads=threads)
        self.interpreter.allocate_tensors()
        (self.input,), (self.output,) = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        if self.input["dtype"] != np.int8 or self.output["dtype"] != np.int8:
            raise StageError(f"expected int8 in and out, found {self.input['dtype']}, {self.output['dtype']}")
        scale, zero = self.input["quantization"]
        self.input_quantisation = (float(scale), int(zero))
        self.scale, self.zero = (float(v) for v in self.output["quantization"])

    def __call__(self, frame):
        self.interpreter.set_tensor(self.input["index"], (frame ^ 0x80).view(np.int8)[None])
        self.interpreter.invoke()
        raw = self.interpreter.get_tensor(self.output["index"])[0]
        return (raw.astype(np.float32) - np.float32(self.zero)) * np.float32(self.scale)

    def run(self, frames):
        """Float32 [n, classes] of uint8 frames [n, h, w, c], one after the other."""
        return np.stack([self(frame) for frame in frames])

    def operators(self):
        """Names of the operators, in order, and whether the delegate took any."""
        return [op["op_name"] for op in self.interpreter._get_ops_details()]
