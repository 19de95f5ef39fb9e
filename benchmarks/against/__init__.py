"""Two commits of this project, measured in turns: ``nox -s bench -- --against COMMIT``.

The two sides are this tree, as its files are now, and COMMIT. Each run of a workload is a process of its own, with the
same interpreter, the same dependencies, the same workload and the ``src`` of one side.
"""
