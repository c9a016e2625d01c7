"""Build filter.pyx as any project that uses shmkit does: no include directories, no libraries, no rpath."""

from setuptools import Extension, setup

setup(name="photograph", ext_modules=[Extension("filter", ["filter.pyx"])])
