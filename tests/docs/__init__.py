"""Tests of the documentation: its examples run, and its lists match the code. A page takes a second or two."""
