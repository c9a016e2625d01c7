"""Builds a module that uses and extends shmkit's semaphores."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(name="semaphores", ext_modules=cythonize([Extension("semaphores", ["semaphores.pyx"])], language_level=3))
