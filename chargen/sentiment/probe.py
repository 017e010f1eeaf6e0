"""A first answer in seconds: a logistic regression on what the frozen encoder holds of a text.

Radford et al. 2017 (https://arxiv.org/abs/1704.01444) read sentiment off a character model so.
"""

from __future__ import annotations

import warnings
from inspect import signature
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from chargen.errors import MissingExtraError
from chargen.sentiment.batching import EncodedTexts, read_all
from chargen.sentiment.network import LIMIT, ClassifierNetwork
from chargen.sentiment.ngrams import row_a_class

STRENGTHS = tuple(2.0**power for power in range(-12, 5, 2))
"""Inverse strengths of regularisation that are tried."""

USUAL_STRENGTH = 2.0**-4
"""Where a class has too few texts to try any."""


def fit_probe(
    network: ClassifierNetwork,
    encoded: EncodedTexts,
    targets: NDArray[np.int64],
    penalty: str,
    class_weights: bool,
    precision: str,
    seed: int,
) -> str:
    """Put a logistic regression into the head of a network without detectors or hidden layer.

    The strength of regularisation is chosen by cross-validation on the same texts, where each
    class has two or more.

    Parameters
    ----------
    network : ClassifierNetwork
        `detectors` and `head_size` 0; its batch renormalisation becomes the standardisation of the
        features, its linear layer the regression.
    encoded : EncodedTexts, N texts
    targets : (N,) int64
    penalty : {"l1", "l2"}
        l1 leaves few units, and so tells which count.
    class_weights : bool
    precision : {"float32", "bfloat16"}
    seed : int

    Returns
    -------
    str
        A sentence about the choice.

    Raises
    ------
    MissingExtraError
        Without scikit-learn.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegressionCV
        from sklearn.model_selection import StratifiedKFold
    except ImportError as error:
        raise MissingExtraError("--method probe", "sentiment") from error

    features = pooled_features(network, encoded, precision)
    norm, linear = network.head[0], network.head[-1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert isinstance(linear, nn.Linear)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = features.mean(0), features.var(0)
    scaled = ((features - mean) / np.sqrt(variance + norm.eps)).clip(-LIMIT, LIMIT)
    fewest = int(np.bincount(targets).min())
    everything = np.arange(len(targets))
    model = LogisticRegressionCV(
        Cs=STRENGTHS if fewest > 1 else (USUAL_STRENGTH,),
        cv=StratifiedKFold(min(5, fewest), shuffle=True, random_state=seed)
        if fewest > 1
        else [(everything, everything)],
        solver="saga" if penalty == "l1" else "lbfgs",
        class_weight="balanced" if class_weights else None,
        scoring="neg_log_loss",
        max_iter=1000 if penalty == "l2" else 200,
        random_state=seed,
        **_penalty(penalty, signature(LogisticRegressionCV).parameters),
    )
    with warnings.catch_warnings():
        # The weakest regularisation would take long to converge, and is not what is chosen.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaled, targets)
    weights, biases = row_a_class(model.coef_, model.intercept_)
    with torch.no_grad():
        norm.reset_parameters()
        norm.running_mean.copy_(torch.from_numpy(mean))
        norm.running_var.copy_(torch.from_numpy(variance))
        linear.weight.copy_(torch.from_numpy(weights))
        linear.bias.copy_(torch.from_numpy(biases))
    used = int((np.abs(weights[-1]) > 1e-12).sum())
    return f"logistic regression ({penalty}) on {features.shape[1]} features, {used} of them used"


def _penalty(name: str, known: Any) -> dict[str, Any]:
    """How scikit-learn is told the penalty: since 1.8 as the share of l1."""
    if "use_legacy_attributes" in known:
        return {"l1_ratios": (1.0 if name == "l1" else 0.0,), "use_legacy_attributes": False}
    return {"penalty": name}


def pooled_features(
    network: ClassifierNetwork, encoded: EncodedTexts, precision: str = "float32"
) -> NDArray[np.float32]:
    """What goes into the head of each text: (N, F) float32."""
    network.eval()
    norm = network.head[0]
    assert isinstance(norm, nn.BatchNorm1d)
    device = network.temperature.device
    return read_all(encoded, network.features, norm.num_features, device, precision).numpy()
