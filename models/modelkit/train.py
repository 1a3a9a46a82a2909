"""Train a ternary network in three phases: float, ternary with batch normalisation, integer with the very rounding.

1. `float`: ordinary network, conv or dense -> batch normalisation -> ReLU.
2. `ternary`: weights lambda * {-1, 0, 1} by the TNT fixed point (keep |w| > lambda / 2, lambda = mean of what is kept),
   activations unsigned with a step found by least squares, gradients straight through; batch normalisation kept.
3. `integer`: batch normalisation folded into one power-of-two shift a channel and an integer bias (`fold`), then a short
   training in exactly the arithmetic of docs/architecture.md: clip(round_half_even((sum(w x) + bias) 2^-shift)).

TensorFlow is imported on use.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelkit.data import augment, shifts_within, view_table

MAX_SHIFT = 20
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def tensorflow(threads=None):
    """TensorFlow, quiet, on the CPU; a message with the extra's name when it is absent."""
    import os

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError("training needs TensorFlow: pip install 'edgert[models]'") from error
    if threads:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        except RuntimeError:
            pass  # already started: the number of threads stays what it was
    return tf


@dataclass(frozen=True)
class TernarySettings:
    """Shape and training of the mandatory network.

    layers: ("conv", channels, kernel, stride), ("pool", size) after a conv, ("dense", units); the last is the dense layer
    of logits.
    bits: activation bits of each hidden layer with weights. Epoch counts and peak learning rates of the three phases; alpha: weight
    of the teacher's answer in the loss, at `temperature`, where there is a teacher. threshold: a weight is kept when |w| > threshold *
    lambda. reach, flips: pictures are learnt from as they are and in views - 1 random shifts (at most reach pixels) and mirrorings.
    fresh: instead, a new random view of each picture in each epoch. momentum: the first two phases use SGD with this Nesterov
    momentum and `weight_decay` on the weights, where it is not 0; else Adam. compiled: XLA. half: products in bfloat16 in the first
    two phases (the integer phase is always exact). power_gains: the ternary phase already has the power-of-two gains that folding
    will give the hidden layers, so that folding changes next to nothing.
    """

    layers: tuple = (("conv", 12, 3, 1), ("pool", 2), ("conv", 24, 3, 1), ("pool", 2), ("dense", 32), ("dense", 10))
    bits: tuple = (4, 6, 8)
    epochs: tuple = (6, 10, 4)
    rates: tuple = (3e-3, 2e-3, 3e-4)
    batch: int = 128
    reach: int = 1
    flips: bool = True
    alpha: float = 0.7
    temperature: float = 3.0
    threshold: float = 0.5
    views: int = 3
    fresh: bool = False
    momentum: float = 0.0
    weight_decay: float = 0.0
    compiled: bool = True
    half: bool = False
    power_gains: bool = False

    def training_table(self, shape):
        """Index table of the views that training draws from."""
        return view_table(*shape[:2], shifts_within(self.reach), (False, True) if self.flips else (False,))


def tnt(weights, threshold=0.5, steps=50):
    """Ternary values and scale of `weights` [..., channels], one scale a channel: (t int8 [...], lambda float32 [channels]).

    Fixed point of: keep |w| > threshold * lambda, lambda = mean of the kept |w|. With threshold 0.5 it is the
    least-squares and the cosine optimum alike (TNT).
    """
    size = np.abs(weights).reshape(-1, weights.shape[-1])
    scale = size.mean(axis=0)
    for _ in range(steps):
        kept = size > threshold * scale
        new = np.where(kept, size, 0).sum(axis=0) / np.maximum(kept.sum(axis=0), 1)
        if np.array_equal(new, scale):
            break
        scale = new
    signs = np.sign(weights) * (np.abs(weights) > threshold * scale)
    return signs.astype(np.int8), scale.astype(np.float32)


class TernaryNet:
    """The trainable network: float32 variables, forward passes of the three phases.

    Frames enter as float32 with the values 0..255, [n, h, w, c]; logits leave as float32 [n, classes].
    """

    def __init__(self, shape, settings, seed):
        self.tf = tf = tensorflow()
        self.settings, self.shape = settings, shape
        rng = np.random.default_rng([seed, 2])
        self.layers = []
        h, w, c = shape
        weighted = [i for i, layer in enumerate(settings.layers) if layer[0] != "pool"]
        for index, layer in enumerate(settings.layers):
            kind, size = layer[:2]
            if kind == "pool":
                h, w = h // size, w // size
                self.layers.append({"kind": "pool", "size": size})
                self.layers[-2]["pool"] = size  # done on the sums, before the activation: the same, and four times cheaper
                continue
            entry = {"kind": kind, "last": index == weighted[-1]}
            if kind == "conv":
                kernel, stride = layer[2], layer[3]
                entry.update(stride=stride, pad=kernel // 2)
                dims, fan = (kernel, kernel, c, size), kernel * kernel * c
                h, w, c = (h - 1) // stride + 1, (w - 1) // stride + 1, size
            else:
                fan = h * w * c
                dims, (h, w, c) = (fan, size), (1, 1, size)
            entry["w"] = tf.Variable(rng.normal(0, np.sqrt(2 / fan), dims).astype(np.float32))
            entry["scale"] = tf.Variable(np.ones(size, np.float32), trainable=False)
            entry["gamma"] = tf.Variable(np.ones(size, np.float32))
            entry["beta"] = tf.Variable(np.zeros(size, np.float32))
            entry["mean"] = tf.Variable(np.zeros(size, np.float32), trainable=False)
            entry["var"] = tf.Variable(np.ones(size, np.float32), trainable=False)
            entry["step"] = tf.Variable(1.0, trainable=False)
            entry["shift"] = tf.Variable(np.zeros(size, np.float32), trainable=False)
            entry["bias"] = tf.Variable(np.zeros(size, np.float32))
            self.layers.append(entry)
        self.logit_shift = 0
        hidden = self.weighted()[:-1]
        if len(settings.bits) != len(hidden):
            raise ValueError(f"bits: expected {len(hidden)} numbers, one a hidden layer, found {settings.bits}")
        for entry, bits in zip(hidden, settings.bits, strict=True):
            entry["bits"], entry["top"] = bits, float(2**bits - 1)

    def weighted(self):
        """The layers that have weights, first to last."""
        return [layer for layer in self.layers if layer["kind"] != "pool"]

    def variables(self, phase):
        """What is trained in a phase."""
        names = ("w", "bias") if phase == "integer" else ("w", "gamma", "beta")
        return [layer[name] for layer in self.weighted() for name in names]

    def state(self):
        """All numbers, as a flat dict of arrays (for a checkpoint)."""
        out = {"logit_shift": np.int64(self.logit_shift)}
        for i, layer in enumerate(self.layers):
            out.update({f"{i}.{k}": v.numpy() for k, v in layer.items() if hasattr(v, "assign")})
        return out

    def restore(self, state):
        """Load what `state` gave."""
        self.logit_shift = int(state["logit_shift"])
        for key in state:
            if "." in key:
                index, name = key.split(".")
                self.layers[int(index)][name].assign(state[key])

    def _ternary(self, layer, training):
        """Weights {-1, 0, 1} * scale with straight-through gradient, one step of the TNT fixed point when training."""
        tf, w = self.tf, layer["w"]
        size, cut = tf.abs(w), self.settings.threshold
        if training:
            axes = list(range(len(w.shape) - 1))
            kept = tf.cast(size > cut * layer["scale"], tf.float32)
            layer["scale"].assign(tf.reduce_sum(size * kept, axes) / tf.maximum(tf.reduce_sum(kept, axes), 1.0))
        scale = layer["scale"]
        return tf.sign(w) * tf.cast(size > cut * scale, tf.float32), scale

    def _through(self, value, exact):
        """`exact` forwards, the gradient of `value` backwards."""
        return value + self.tf.stop_gradient(exact - value)

    def _sum(self, layer, x, weights, half=False):
        """Sums of products, then the largest of each window where a pool follows.

        The activation after it rises with its argument (its gain is |gamma|), so pooling before or after it is the same.
        """
        z = self._products(layer, x, weights) if self.settings.compiled else self._library(layer, x, weights, half)
        return self._pool(z, layer["pool"]) if "pool" in layer else z

    def _products(self, layer, x, weights):
        tf = self.tf
        if layer["kind"] == "dense":
            return tf.matmul(tf.reshape(x, (-1, weights.shape[0])), weights)
        p, stride = layer["pad"], layer["stride"]
        x = tf.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
        kernel, _, c, out = weights.shape
        if c > 4:
            return tf.nn.conv2d(x, weights, stride, "VALID")
        h, w = x.shape[1] - kernel + 1, x.shape[2] - kernel + 1  # few channels: columns and a matrix product are faster
        columns = [x[:, i : i + h : stride, j : j + w : stride] for i in range(kernel) for j in range(kernel)]
        flat = tf.reshape(tf.concat(columns, -1), (-1, kernel * kernel * c))
        return tf.reshape(tf.matmul(flat, tf.reshape(weights, (-1, out))), (-1, *columns[0].shape[1:3], out))

    def _library(self, layer, x, weights, half):
        """The same products by the library's own convolution: faster than XLA's for many channels. `half`: in bfloat16."""
        tf = self.tf
        if layer["kind"] == "dense":
            return tf.matmul(tf.reshape(x, (-1, weights.shape[0])), weights)
        p, stride = layer["pad"], layer["stride"]
        if half:
            x, weights = tf.cast(x, tf.bfloat16), tf.cast(weights, tf.bfloat16)
        z = tf.nn.conv2d(x, weights, stride, [[0, 0], [p, p], [p, p], [0, 0]] if stride > 1 else "SAME")
        return tf.cast(z, tf.float32)

    def _pool(self, x, size):
        """Max pool as a reshape (XLA's own is slower); rows and columns that do not fill a window are dropped."""
        if not self.settings.compiled:
            return self.tf.nn.max_pool2d(x, size, size, "VALID")
        h, w, c = x.shape[1] // size, x.shape[2] // size, x.shape[3]
        return self.tf.reduce_max(
            self.tf.reshape(x[:, : h * size, : w * size], (-1, h, size, w, size, c)), (2, 4)
        )

    def forward(self, frames, phase, training=False, keep=None):
        """Logits float32 [n, classes] of float32 frames [n, h, w, c]; `keep`, a list, receives hidden activations."""
        x = frames if phase == "integer" else frames / 255.0
        step = 1.0 / 255.0
        for layer in self.layers:
            if layer["kind"] == "pool":
                continue
            if phase == "integer":
                x = self._integer(layer, x, training)
            else:
                x = self._float(layer, x, phase, training, keep, step)
                step = layer["step"]
        return x * 2.0**-self.logit_shift if phase == "integer" else x

    def _float(self, layer, x, phase, training, keep, step_in):
        tf, w = self.tf, layer["w"]
        if phase == "ternary":
            signs, scale = self._ternary(layer, training)
            w = self._through(w, signs * scale)
        z = self._sum(layer, x, w, self.settings.half)
        axes = list(range(len(z.shape) - 1))
        if training:
            mean, var = tf.nn.moments(z, axes)
            layer["mean"].assign(0.95 * layer["mean"] + 0.05 * mean)
            layer["var"].assign(0.95 * layer["var"] + 0.05 * var)
        else:
            mean, var = layer["mean"], layer["var"]
        slope = tf.math.rsqrt(var + 1e-5) * tf.abs(layer["gamma"])
        if phase == "ternary" and self.settings.power_gains and not layer["last"]:
            gain = tf.maximum(self.gain(layer, step_in), 1e-12)
            shift = tf.clip_by_value(tf.round(-tf.math.log(gain) / np.log(2)), 0, MAX_SHIFT)
            slope *= tf.stop_gradient(tf.pow(2.0, -shift) / gain)
        z = (z - mean) * slope + layer["beta"]
        if layer["last"]:
            return z
        if keep is not None:
            keep.append(tf.nn.relu(z))
        if phase == "float":
            return tf.nn.relu(z)
        y = tf.clip_by_value(z / layer["step"], 0.0, layer["top"])
        return self._through(y, tf.round(y)) * layer["step"]

    def gain(self, layer, step_in):
        """Steps of the output per unit of the accumulator [channels], from the running variance: what folding rounds to 2^-shift."""
        sigma = self.tf.sqrt(layer["var"] + 1e-5)
        return self.tf.abs(layer["gamma"]) * layer["scale"] * step_in / (sigma * layer["step"])

    def _integer(self, layer, x, training):
        tf, w = self.tf, layer["w"]
        signs, scale = self._ternary(layer, False)
        w = self._through(w / scale, signs)
        acc = self._sum(layer, x, w) + self._through(layer["bias"], tf.round(layer["bias"]))
        y = acc * tf.pow(2.0, -layer["shift"])
        low, high = (-128.0, 127.0) if layer["last"] else (0.0, layer["top"])
        y = tf.clip_by_value(y, low, high)
        return self._through(y, tf.round(y))

    def set_steps(self, frames):
        """Activation steps by least squares on the float phase's activations of `frames` (uint8 [n, h, w, c])."""
        kept = []
        self.forward(self.tf.constant(frames, self.tf.float32), "float", keep=kept)
        hidden = [layer for layer in self.weighted() if not layer["last"]]
        for layer, values in zip(hidden, kept, strict=True):
            layer["step"].assign(best_step(values.numpy().ravel(), layer["top"]))

    def set_scales(self):
        """The TNT scale of every layer, from its weights."""
        for layer in self.weighted():
            layer["scale"].assign(tnt(layer["w"].numpy(), self.settings.threshold)[1])


def best_step(values, top):
    """Step s that minimises the mean square of v - s * clip(round(v / s), 0, top), over a grid of 60."""
    values = values[:: max(1, values.size // 50_000)]
    steps = np.quantile(values, 0.999) / top * np.geomspace(0.2, 1.6, 60)
    errors = [np.mean((values - s * np.clip(np.rint(values / s), 0, top)) ** 2) for s in steps]
    return float(steps[int(np.argmin(errors))])


def cosine(step, total, peak, warm=0.1):
    """Learning rate at `step` of `total`: linear rise over the first tenth, cosine fall to nought."""
    where = step / max(total, 1)
    if where < warm:
        return peak * (where / warm + 1e-3)
    return peak * 0.5 * (1 + np.cos(np.pi * (where - warm) / (1 - warm)))


def fit_phase(net, phase, frames, labels, soft, *, epochs, peak, seed, say=None, keep=None):
    """Train one phase. frames uint8 [views, n, h, w, c], soft float32 [views, n, classes] or None.

    Each epoch takes every picture once, in a random view of those given, or in a fresh one (`settings.fresh`). keep: an
    `Epochs`, where the state is written after each epoch and found again. Returns the mean loss of the last epoch.
    """
    settings, trained = net.settings, net.variables(phase)
    optimizer = _optimizer(net, phase, peak)
    optimizer.build(trained)
    step = _step(net, phase, trained, optimizer, soft is not None)
    rng = np.random.default_rng([seed, 3, len(phase)])
    n, batch = frames.shape[1], settings.batch
    steps = n // batch
    labels = labels.astype(np.int32)
    none = np.zeros((batch, 1), np.float32)
    table = settings.training_table(frames.shape[2:])
    done, mean = keep.load(phase, net, optimizer) if keep else (0, 0.0)
    for epoch in range(epochs):
        order = rng.permutation(n)
        which = rng.integers(0, len(frames), n)
        if epoch < done:
            continue
        seen = augment(frames[0], table, np.random.default_rng([seed, 4, len(phase), epoch])) if settings.fresh else None
        losses, started = [], time.monotonic()
        for i in range(steps):
            optimizer.learning_rate.assign(cosine(epoch * steps + i, epochs * steps, peak))
            rows = order[i * batch : (i + 1) * batch]
            teacher = none if soft is None else soft[which[rows], rows]
            losses.append(step(frames[which[rows], rows] if seen is None else seen[rows], labels[rows], teacher))
        mean = float(np.mean([float(v) for v in losses]))
        if keep:
            keep.save(phase, epoch + 1, mean, net, optimizer)
        if say:
            say(f"{phase} {epoch + 1}/{epochs}: loss {mean:.4f} ({time.monotonic() - started:.0f} s)")
    return mean


def _optimizer(net, phase, peak):
    """SGD with Nesterov momentum where the settings ask for it and the phase is not the integer one, else Adam."""
    keras, momentum = net.tf.keras.optimizers, net.settings.momentum
    return keras.SGD(peak, momentum=momentum, nesterov=True) if momentum and phase != "integer" else keras.Adam(peak)


def _step(net, phase, trained, optimizer, taught):
    """The function of one batch (frames, labels, teacher's logits) -> loss that also moves the variables."""
    tf, settings = net.tf, net.settings
    alpha, warmth = (settings.alpha, settings.temperature) if taught else (0.0, 1.0)
    decay = 0.0 if phase == "integer" else settings.weight_decay

    @tf.function(jit_compile=settings.compiled)
    def step(x, y, teacher):
        with tf.GradientTape() as tape:
            logits = net.forward(tf.cast(x, tf.float32), phase, training=True)
            hard = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
            loss = tf.reduce_mean(hard)
            if alpha:
                near = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(teacher / warmth), logits / warmth)
                loss = (1 - alpha) * loss + alpha * warmth**2 * tf.reduce_mean(near)
        grads = tape.gradient(loss, trained)
        if decay:
            grads = [g + decay * v if len(v.shape) > 1 else g for g, v in zip(grads, trained, strict=True)]
        optimizer.apply_gradients(zip(grads, trained, strict=True))
        return loss

    return step


class Epochs:
    """The state of an unfinished training in one file, written (whole or not at all) after each epoch.

    A killed run that is started again with the same settings loads it and goes on; the result is the same as without the kill.
    """

    def __init__(self, path):
        self.path = Path(path)

    def _read(self):
        if not self.path.exists():
            return None
        with np.load(self.path, allow_pickle=False) as stored:
            return {k: stored[k] for k in stored.files}

    def phase(self):
        """The phase that the file is of; None: there is no file."""
        stored = self._read()
        return None if stored is None else str(stored["phase"])

    def load(self, phase, net, optimizer):
        """(epochs done, mean loss of the last) of `phase`, after net and optimizer have been set to that point."""
        stored = self._read()
        if stored is None or str(stored["phase"]) != phase:
            return 0, 0.0
        net.restore({k[4:]: v for k, v in stored.items() if k.startswith("net.")})
        for i, variable in enumerate(optimizer.variables):
            variable.assign(stored[f"optimizer.{i}"])
        return int(stored["epoch"]), float(stored["mean"])

    def save(self, phase, epoch, mean, net, optimizer):
        """Write the state after `epoch` epochs of `phase`."""
        numbers = {f"net.{k}": v for k, v in net.state().items()}
        numbers.update({f"optimizer.{i}": v.numpy() for i, v in enumerate(optimizer.variables)})
        part = self.path.with_suffix(".part")
        with open(part, "wb") as file:
            np.savez(file, phase=np.array(phase), epoch=np.int64(epoch), mean=np.float64(mean), **numbers)
        part.replace(self.path)

    def forget(self):
        """Remove the file: the training is done."""
        self.path.unlink(missing_ok=True)


def predict(net, phase, frames, batch=1000):
    """Float32 logits [n, classes] of uint8 frames [n, h, w, c]."""
    tf = net.tf
    run = tf.function(lambda x: net.forward(tf.cast(x, tf.float32), phase), jit_compile=net.settings.compiled)
    return np.concatenate([run(frames[i : i + batch]).numpy() for i in range(0, len(frames), batch)])
