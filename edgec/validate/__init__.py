"""Fidelity of an artifact: inputs, sizes, tolerances, the first value that differs."""

from edgec.comparison import Comparison, compare
from edgec.validate.difference import first_difference
from edgec.validate.fidelity import Case, check, fidelity, make_cases
from edgec.validate.inputs import make_inputs
from edgec.validate.report import Checked, Difference, Fidelity
from edgec.validate.settings import Setting, settings
from edgec.validate.tolerance import RULE, bounds, tolerance

__all__ = [
    "RULE",
    "Case",
    "Checked",
    "Comparison",
    "Difference",
    "Fidelity",
    "Setting",
    "bounds",
    "check",
    "compare",
    "fidelity",
    "first_difference",
    "make_cases",
    "make_inputs",
    "settings",
    "tolerance",
]
