"""Builds a module that uses and extends shmkit's locks."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(name="locks", ext_modules=cythonize([Extension("locks", ["locks.pyx"])], language_level=3))
