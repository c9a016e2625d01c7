"""Builds a module that uses and extends shmkit's queues."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(name="queues", ext_modules=cythonize([Extension("queues", ["queues.pyx"])], language_level=3))
