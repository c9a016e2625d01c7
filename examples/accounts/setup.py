"""Builds accounts.pyx as any project that uses shmkit does: no include directories, no libraries, no rpath."""

from setuptools import Extension, setup

setup(name="accounts", ext_modules=[Extension("accounts", ["accounts.pyx"])])
