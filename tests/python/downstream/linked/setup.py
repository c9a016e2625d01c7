"""Builds a module that links to the library of the installed shmkit."""

import shmkit
from Cython.Build import cythonize
from setuptools import Extension, setup

linked = Extension(
    "linked",
    ["linked.pyx"],
    include_dirs=[shmkit.get_include()],
    library_dirs=[shmkit.get_library_dir()],
    libraries=["shmkit"],
    runtime_library_dirs=[shmkit.get_library_dir()],
)
setup(name="linked", ext_modules=cythonize([linked], language_level=3))
