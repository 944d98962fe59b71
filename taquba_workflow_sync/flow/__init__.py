"""Flows: the steps of a run as typed functions. Needs the extra ``[typed]``."""

try:
    import msgspec  # noqa: F401  # before anything else does, to say what to install
except ImportError as _error:
    raise ImportError("flows need msgspec: pip install 'taquba-workflow-sync[typed]'") from _error

from taquba_workflow_sync.flow.durable import Do
from taquba_workflow_sync.flow.errors import FlowChangedError, FlowDefinitionError, FlowNotBoundError
from taquba_workflow_sync.flow.flow import Flow
from taquba_workflow_sync.flow.flow_step import FlowStep
from taquba_workflow_sync.flow.goto import Goto
from taquba_workflow_sync.flow.graph import Graph
from taquba_workflow_sync.flow.handle import FlowHandle
from taquba_workflow_sync.flow.step import Step
from taquba_workflow_sync.workflow.outcomes import Cancel, Fail

__all__ = [
    "Cancel",
    "Do",
    "Fail",
    "Flow",
    "FlowChangedError",
    "FlowDefinitionError",
    "FlowHandle",
    "FlowNotBoundError",
    "FlowStep",
    "Goto",
    "Graph",
    "Step",
]
