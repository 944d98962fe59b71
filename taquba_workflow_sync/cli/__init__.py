"""The command line ``taquba-workflow``, also ``python -m taquba_workflow_sync``; needs the extra ``[cli]``."""
