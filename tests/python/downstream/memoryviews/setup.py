"""Builds a module that takes segments as typed memoryviews."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(name="memoryviews", ext_modules=cythonize([Extension("memoryviews", ["memoryviews.pyx"])], language_level=3))
