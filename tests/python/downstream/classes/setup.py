"""Builds a module that uses and extends shmkit's classes."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(name="classes", ext_modules=cythonize([Extension("classes", ["classes.pyx"])], language_level=3))
