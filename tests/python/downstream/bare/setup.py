"""Builds a module that uses shmkit by `cimport shmkit` alone."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(name="bare", ext_modules=cythonize([Extension("bare", ["bare.pyx"])], language_level=3))
