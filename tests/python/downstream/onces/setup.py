"""Builds a module that uses and extends shmkit.Once."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(name="onces", ext_modules=cythonize([Extension("onces", ["onces.pyx"])], language_level=3))
