"""Optional packages: the extra that installs each, and the message if one is missing."""

EXTRA_OF = {
    "pydicom": "medical",
    "nibabel": "medical",
    "av": "medical",
    "trimesh": "mesh",
    "pyvista": "mesh",
    "vtkmodules": "mesh",
    "rapidocr": "ocr",
    "onnxruntime": "ocr",
    "monai": "segmentation",
    "tensorboard": "tensorboard",
    "starlette": "study",
    "uvicorn": "study",
    "sqlalchemy": "study",
    "alembic": "study",
    "psycopg": "study",
    "babel": "study",
    "itsdangerous": "study",
    "python_multipart": "study",
    "krippendorff": "study",
    "pandas": "study",
    "pingouin": "study",
    "pyarrow": "study",
    "bitsandbytes": "gpu",
    "opacus": "dp",
}
"""Module -> extra of pyproject.toml; everything else that is imported comes with echodiff."""


def pip_command(module: str) -> str:
    """The command that installs `module` with the rest of its extra."""
    return f"pip install 'echodiff[{EXTRA_OF[module]}]'"


def explain_missing(error: ImportError) -> str | None:
    """One line for a missing optional package; None for any other failed import."""
    module = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or module not in EXTRA_OF:
        return None
    return f"needs the package {module}: {pip_command(module)}"
