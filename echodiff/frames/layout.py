"""Names of the files and folders in a frames folder."""

METADATA = "metadata.jsonl"
IMAGES, MASKS = "images", "masks"
JOB = ".metadata.partial.job"
"""Record of the job that began the folder."""


def mask_of(file_name: str) -> str:
    """Name of the mask that belongs to an image."""
    return MASKS + file_name.removeprefix(IMAGES)
