"""From trained numbers to integers: batch normalisation into shifts and biases, then the `Network` of plain integers."""

import numpy as np

from modelkit.train import MAX_SHIFT, predict


def fold(net, frames, labels):
    """Move a `TernaryNet` from the `ternary` to the `integer` phase, in place.

    With x = step_in * x_int, batch normalisation over a step is y = acc * g + b, where g = |gamma| lambda step_in /
    (sigma step_out); g becomes the nearest 2^-shift and the bias is b / g. The shift of the logits is one for all classes: the
    smallest that clips at most one logit in a thousand of `frames` (uint8 [n, h, w, c]); `logit_shift` is then the one with
    the least loss on `labels`.
    """
    step_in = 1.0 / 255.0
    for layer in net.weighted():
        scale = layer["scale"].numpy()  # as training left it: for thresholds above 1/2 the fixed point is not the only one
        sigma = np.sqrt(layer["var"].numpy() + 1e-5)
        gamma, beta, mean = (layer[k].numpy() for k in ("gamma", "beta", "mean"))
        gamma = np.abs(gamma)
        step_out = 1.0 if layer["last"] else float(layer["step"].numpy())
        gain = gamma * scale * step_in / (sigma * step_out)
        offset = (beta - gamma * mean / sigma) / step_out
        gain = np.maximum(gain, 1e-12)
        if layer["last"]:
            gain = np.full_like(gain, np.exp(np.mean(np.log(gain))))  # one scale for all logits
        shift = np.clip(np.rint(-np.log2(gain)), 0, MAX_SHIFT)
        layer["shift"].assign(shift.astype(np.float32))
        if net.settings.power_gains and not layer["last"]:  # the gain was 2^-shift when beta was learnt
            layer["bias"].assign((beta / step_out * 2.0**shift - mean / (scale * step_in)).astype(np.float32))
        else:  # keep the point where the channel turns on: acc = -offset / gain, whatever the rounding of the gain
            layer["bias"].assign((offset / gain).astype(np.float32))
        step_in = step_out
    last = net.weighted()[-1]
    last["shift"].assign(np.zeros_like(last["shift"].numpy()))
    wide = _accumulators(net, frames)
    top = np.quantile(np.abs(wide), 0.999)
    shift = max(0, int(np.ceil(np.log2(max(top, 1) / 127.0))))
    last["shift"].assign(np.full_like(last["shift"].numpy(), shift))
    net.logit_shift = 0
    net.logit_shift = best_logit_shift(predict(net, "integer", frames), labels)


def _accumulators(net, frames):
    """The last layer's sums, float32 [n, classes], before shift and saturation."""
    kept = {}
    plain = net._integer

    def spy(layer, x, training):
        if layer["last"]:
            signs, _ = net._ternary(layer, False)
            kept["acc"] = net._sum(layer, x, signs) + layer["bias"]
        return plain(layer, x, training)

    net._integer = spy
    try:
        net.forward(net.tf.constant(frames[:2000], net.tf.float32), "integer")
    finally:
        net._integer = plain
    return kept["acc"].numpy()


def best_logit_shift(logits, labels):
    """The s in -2..8 with the least mean cross-entropy of softmax(logits 2^-s); logits [n, classes] of int8 values."""
    losses = {s: cross_entropy(logits * 2.0**-s, labels) for s in range(-2, 9)}
    return min(losses, key=losses.get)


def cross_entropy(logits, labels):
    """Mean cross-entropy in nats of softmax(logits [n, classes]) against labels [n]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]))


def to_network(net):
    """The integer `modelkit.ternary.network.Network` of a `TernaryNet` in its integer phase."""
    from modelkit.ternary.layers import Conv, Dense, MaxPool
    from modelkit.ternary.network import Network

    layers = []
    for layer in net.layers:
        if layer["kind"] == "pool":
            layers.append(MaxPool(size=layer["size"], stride=layer["size"]))
            continue
        scale, w = layer["scale"].numpy(), layer["w"].numpy()
        numbers = {
            "weights": (np.sign(w) * (np.abs(w) > net.settings.threshold * scale)).astype(np.int8),
            "bias": np.rint(layer["bias"].numpy()).astype(np.int32),
            "shift": layer["shift"].numpy().astype(np.int64),
            "bits": None if layer["last"] else layer["bits"],
        }
        if layer["kind"] == "conv":
            layers.append(Conv(**numbers, stride=layer["stride"], pad=(layer["pad"],) * 4))
        else:
            layers.append(Dense(**numbers))
    return Network(net.shape, layers, net.logit_shift)
