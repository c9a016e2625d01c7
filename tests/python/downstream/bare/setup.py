"""Builds a module that uses shmkit with nothing but `cimport shmkit`."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(name="bare", ext_modules=cythonize([Extension("bare", ["bare.pyx"])], language_level=3))
