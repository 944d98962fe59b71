"""The flow of two modules that import each other."""

from taquba_workflow_sync.flow import Flow

numbers = Flow[int, str]("numbers")
