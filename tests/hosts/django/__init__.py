"""The library in Django projects. Django has one set of settings per process, so each project has its own processes."""
