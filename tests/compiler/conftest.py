"""The reference target, for tests of what does not depend on a target."""

from tests.reference_target import reference_target

__all__ = ["reference_target"]
