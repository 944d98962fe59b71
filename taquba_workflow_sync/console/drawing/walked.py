"""Which steps a run has behind it, as far as its flow's graph tells: a run knows only where it is, and how far."""

from __future__ import annotations

from taquba_workflow_sync.flow.graph import Graph

#: What has walked further than that has been round in circles; nobody looks for where.
_FURTHEST = 1_000


def walked(graph: Graph, label: str | None, step: int) -> dict[int, str]:
    """Return the names of a run's steps by their numbers, up to the one that it is at; those that are certain.

    A number has a name if every way of that many steps from the start to ``label`` has the same step there. Of a graph
    that shows no way to some of its steps nothing follows: it has ways that its source does not show.
    """
    if label not in graph.steps:
        return {}
    reached = {target for _, target in graph.edges}
    if step > _FURTHEST or not reached.issuperset(each for each in graph.steps if each != graph.start):
        return {step: label}
    after: dict[str, set[str]] = {each: set() for each in graph.steps}
    before: dict[str, set[str]] = {each: set() for each in graph.steps}
    for source, target in graph.edges:
        if source in after and target in before:
            after[source].add(target)
            before[target].add(source)
    forth = [{graph.start}]
    for _ in range(step):
        forth.append({target for each in forth[-1] for target in after[each]})
    if label not in forth[-1]:
        return {step: label}  # the graph is of another version, or the step was chosen as the run went
    found = {step: label}
    back = {label}
    for number in range(step - 1, -1, -1):
        back = {source for each in back for source in before[each]} & forth[number]
        if len(back) == 1:
            (found[number],) = back
    return found
