"""Builds a module that uses and extends shmkit's barriers."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(name="barriers", ext_modules=cythonize([Extension("barriers", ["barriers.pyx"])], language_level=3))
