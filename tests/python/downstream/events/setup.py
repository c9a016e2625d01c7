"""Builds a module that uses and extends shmkit's events."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(name="events", ext_modules=cythonize([Extension("events", ["events.pyx"])], language_level=3))
