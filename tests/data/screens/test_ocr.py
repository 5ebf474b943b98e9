import builtins

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from echodiff.__main__ import main
from echodiff.data.screens import burned_text, ocr
from echodiff.frames.rows import Frame
from echodiff.frames.writer import FramesWriter


@pytest.fixture
def frames(tmp_path):
    image = Image.new("L", (240, 160), 30)
    ImageDraw.Draw(image).text((20, 60), "PETROVA 1961", fill=240, font=ImageFont.load_default(22))
    with FramesWriter(tmp_path / "frames") as writer:
        writer.add(Frame(file_name="a.png", text="", patient_id="p1"), np.asarray(image))
    return tmp_path / "frames"


def test_without_the_extra_one_line_says_how_to_get_it(frames, monkeypatch, capsys):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name in {"rapidocr", "onnxruntime"}:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    ocr.load_engine.cache_clear()
    monkeypatch.setattr(builtins, "__import__", missing)
    assert main(["check", str(frames), "--ocr"]) == 2
    assert "pip install 'echodiff[ocr]'" in capsys.readouterr().err


def test_ocr_sees_what_the_finder_misses(frames, monkeypatch, capsys):
    pytest.importorskip("rapidocr", reason="needs the extra: pip install echodiff[ocr]")
    pytest.importorskip("onnxruntime", reason="needs the extra: pip install echodiff[ocr]")
    ocr.load_engine.cache_clear()
    monkeypatch.setattr(burned_text, "find_text", lambda image_u8: [])
    main(["check", str(frames)])
    assert "burned-in-text" not in capsys.readouterr().out
    assert main(["check", str(frames), "--ocr"]) == 1
    printed = capsys.readouterr().out
    assert "error: burned-in-text (1)" in printed
    assert "(found by OCR only)" in printed
    assert "PETROVA" not in printed
