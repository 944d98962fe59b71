"""The step orchestrator: runner contract, outcomes, client, runtime, terminal hooks."""
