"""Encodings as functions of parameters that gradients reach."""

from edgec.passes.trainable.form import Form, Parameter
from edgec.passes.trainable.forms import trainable

__all__ = ["Form", "Parameter", "trainable"]
