"""``python -m taquba_workflow_sync`` is ``taquba-workflow``."""

from taquba_workflow_sync.cli.entry import main

if __name__ == "__main__":
    main()
