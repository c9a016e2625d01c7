"""Builds a module that uses and extends shmkit's conditions."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(name="conditions", ext_modules=cythonize([Extension("conditions", ["conditions.pyx"])], language_level=3))
