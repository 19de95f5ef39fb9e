"""Measurements. Run by ``nox -s bench``; what each part measures, and against what, its module says."""
