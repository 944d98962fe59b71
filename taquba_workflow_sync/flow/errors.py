"""What goes wrong with flows, beside what goes wrong with any run."""

from __future__ import annotations

from taquba_workflow_sync.errors import TaqubaError


class FlowDefinitionError(TaqubaError):
    """A flow is not put together so that it could run: names the function, and what of it is wrong."""


class FlowNotBoundError(TaqubaError):
    """A flow was asked for runs and knows no store: give ``queue=``, or use ``using`` or ``bind``."""


class FlowChangedError(TaqubaError):
    """A durable function makes other calls than those that its run has noted; names both.

    Permanent: ``retry(memo="clear")`` has it begin anew, where that is right.
    """
