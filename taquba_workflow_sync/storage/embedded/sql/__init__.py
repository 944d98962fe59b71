"""All SQL of the embedded engine: one named statement for each transition and each read."""

from taquba_workflow_sync.storage.embedded.sql.check import *
from taquba_workflow_sync.storage.embedded.sql.claims import *
from taquba_workflow_sync.storage.embedded.sql.fence import *
from taquba_workflow_sync.storage.embedded.sql.frame import *
from taquba_workflow_sync.storage.embedded.sql.jobs import *
from taquba_workflow_sync.storage.embedded.sql.listing import *
from taquba_workflow_sync.storage.embedded.sql.names import *
from taquba_workflow_sync.storage.embedded.sql.reads import *
from taquba_workflow_sync.storage.embedded.sql.repair import *
from taquba_workflow_sync.storage.embedded.sql.schema import *
from taquba_workflow_sync.storage.embedded.sql.upgrade import *
