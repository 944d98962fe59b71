"""How a store of version 3 becomes one of version 4: the same tables under new names, and those that are new."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.sql import features
from taquba_workflow_sync.storage.relational.sql.names import SCHEMA_VERSION
from taquba_workflow_sync.storage.relational.sql.upgrade import (
    OLD_NAMES,
    OLD_NAMES_1,
    OLD_NAMES_2,
    OLD_NAMES_3,
    of_version_3,
    refusals,
)

#: What version 4 has beside: tables of features; those of version 3 it changes in nothing but their names.
_NEW: Final = tuple(each for each in features.SCHEMA if not of_version_3(each))

TO_VERSION_4: Final = (
    # First: with a view that cannot be read SQLite renames nothing.
    *(f"DROP VIEW {name}" for name in (*OLD_NAMES_1, *OLD_NAMES_2)),
    *(f"ALTER TABLE {name} RENAME TO {name.removesuffix('3')}{SCHEMA_VERSION}" for name in OLD_NAMES_3),
    *_NEW,
    *refusals(SCHEMA_VERSION, *OLD_NAMES),
)
