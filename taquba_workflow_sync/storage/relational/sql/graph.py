"""Graphs of queues: registered by whoever serves them, and shown.

The table is none of the schema's and bears no version: no transition reads it, so a program that does not know it works
on the store as before, and one that does makes it when it first has a graph. It is not called like the schema's, which
``check`` compares with what a version has to have.
"""

from __future__ import annotations

from typing import Final

GRAPH: Final = "workflow_graph"


MAKE_GRAPHS = f"CREATE TABLE IF NOT EXISTS {GRAPH} (queue TEXT PRIMARY KEY, graph TEXT NOT NULL) WITHOUT ROWID"


HAS_GRAPHS = f"SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{GRAPH}'"


PUT_GRAPH = f"INSERT OR REPLACE INTO {GRAPH} (queue, graph) VALUES (?, ?)"


GET_GRAPHS = f"SELECT queue, graph FROM {GRAPH} WHERE typeof(queue) = 'text' AND typeof(graph) = 'text' ORDER BY queue"
