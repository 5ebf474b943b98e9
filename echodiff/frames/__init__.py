"""The frames folder, which every command reads or writes: images and one row of JSON for each.

It is a Hugging Face `imagefolder`: `datasets.load_dataset("imagefolder", data_dir=...)` opens it.
"""
