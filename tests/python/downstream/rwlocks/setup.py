"""Builds a module that uses and extends shmkit's readers-writer locks."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(name="rwlocks", ext_modules=cythonize([Extension("rwlocks", ["rwlocks.pyx"])], language_level=3))
