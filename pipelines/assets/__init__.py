"""The assets of the graph, one module a stage. Each op calls a function of a lower room and says what came of it."""
