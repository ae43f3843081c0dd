from setuptools import find_packages, setup

inside = ["compress_ops.cli", *(f"compress_ops.cli.{name}" for name in find_packages("cli"))]
setup(packages=find_packages(include=["compress_ops*"]) + inside)
