import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from echodiff.__main__ import main
from echodiff.anatomy import Label
from echodiff.data.mesh.parts import name_part
from echodiff.frames.reader import load_frames

trimesh = pytest.importorskip("trimesh", reason="is in extra mesh")
pyvista = pytest.importorskip("pyvista", reason="is in extra mesh")

REAL = Path(__file__).parents[3] / "shared" / "data" / "heart" / "VH_M_Heart.glb"

# A heart of ellipsoids in mm, x lateral, y anterior, z towards the apex: name, label, tag in the
# meshes of Rodero et al. (0: no wall), centre, semi-axes. Later ones lie over earlier ones. The
# vessels stand in front of it, and only there.
HEART = [
    ("aorta", Label.AORTA, 5, (7, 21, -8), (8, 8, 12)),
    ("pulmonary_trunk", Label.PULMONARY_ARTERY, 6, (-16, 25, 22), (7, 7, 24)),
    ("left_atrium_wall", Label.ATRIAL_WALL, 3, (0, 0, -13), (16, 15, 15)),
    ("right_atrium_wall", Label.ATRIAL_WALL, 4, (-31, -2, -12), (16, 16, 15)),
    ("right_ventricle_wall", Label.RV_MYOCARDIUM, 2, (-30, 3, 16), (16, 18, 26)),
    ("left_ventricle_wall", Label.LV_MYOCARDIUM, 1, (0, 0, 22), (20, 20, 32)),
    ("right_atrium_cavity", Label.RA, 0, (-31, -2, -12), (13.5, 13.5, 12.5)),
    ("right_ventricle_cavity", Label.RV, 0, (-32, 3, 16), (12, 15, 23)),
    ("left_atrium_cavity", Label.LA, 0, (0, 0, -13), (13.5, 12.5, 12.5)),
    ("left_ventricle_cavity", Label.LV, 0, (0, 0, 22), (13, 13, 25)),
]
NAMES = [name for name, *_ in HEART]
CHAMBERS = (Label.LV, Label.LA, Label.RV, Label.RA)
TURN = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
"""From the frame above to that of the file: a proper rotation."""
SHIFT = np.array([40.0, -25.0, 310.0])
MIRROR = np.diag([1.0, -1.0, 1.0])


def find_part(points, turn=TURN):
    """Number of the part from 1 at points (..., 3) of the file's frame, 0 where there is none."""
    own = (points - SHIFT) @ turn
    parts = np.zeros(points.shape[:-1], np.uint8)
    for number, (*_, middle, semi) in enumerate(HEART, start=1):
        parts[(((own - middle) / semi) ** 2).sum(axis=-1) < 1] = number
    return parts


def label_heart(points, turn=TURN):
    return np.array([0, *(label for _, label, *_ in HEART)])[find_part(points, turn)]


def tag_walls(points):
    return np.array([0, *(tag for _, _, tag, *_ in HEART)])[find_part(points)]


def build_part(name, *, turn=TURN):
    middle, semi = HEART[NAMES.index(name)][3:]
    mesh = trimesh.creation.icosphere(subdivisions=3)
    mesh.vertices = (mesh.vertices * semi + middle) @ turn.T + SHIFT
    if np.linalg.det(turn) < 0:
        mesh.invert()
    return mesh


def write_glb(path, *, parts=None, scale=0.001, turn=TURN):
    scene = trimesh.Scene()
    for name in NAMES if parts is None else parts:
        # A node may stand anywhere: half of the shift is in the scene, half in the vertices.
        mesh = build_part(name, turn=turn).apply_translation(-SHIFT / 2).apply_scale(scale)
        node = trimesh.transformations.translation_matrix(SHIFT / 2 * scale)
        scene.add_geometry(mesh, node_name=name, geom_name=f"geometry of {name}", transform=node)
    path.write_bytes(scene.export(file_type="glb"))
    return path


def write_folder(path):
    path.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        mesh = build_part(name)
        if number % 2:  # a surface with holes
            mesh.update_faces(np.random.default_rng(number).random(len(mesh.faces)) > 0.01)
        mesh.export(path / f"{name}.{'ply' if number % 3 else 'stl'}")
    return path


def voxels(step):
    """Centres (X, Y, Z, 3) of voxels around the heart, and an affine that leads to them."""
    low, high = np.array([[-56.0, -60.0, -56.0], [48.0, 60.0, 50.0]]) + SHIFT
    # The first axis runs backwards: what is left and right is the affine's to say.
    axes = [np.arange(high[0], low[0], -step), *map(np.arange, low[1:], high[1:], [step] * 2)]
    affine = np.diag([-step, step, step, 1.0])
    affine[:3, 3] = [axis[0] for axis in axes]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), affine


def write_volume(path, values=None, *, turn=TURN, step=1.0, is_placed=True):
    points, affine = voxels(step)
    values = label_heart(points, turn) if values is None else values
    nib.save(nib.Nifti1Image(values.astype(np.int16), affine if is_placed else None), path)
    return path


def write_cells(path, tags_of=label_heart, *, step=1.2, name="elemTag"):
    """Cubes with a number each, those of number 0 left out."""
    points, _ = voxels(step)
    tags = tags_of(points)[::-1]
    grid = pyvista.ImageData(
        dimensions=[side + 1 for side in tags.shape],
        spacing=(step, step, step),
        origin=points[-1, 0, 0] - step / 2,
    )
    grid.cell_data[name] = tags.reshape(-1, order="F").astype(np.float32)
    cells = grid.extract_cells(np.flatnonzero(grid.cell_data[name]))
    cells.save(path)
    return path


def prepare(path, out, *flags, size=96, slices=2):
    fixed = ("--out", str(out), "--size", str(size), "--slices", str(slices), "--workers", "1")
    assert main(["prepare", "mesh", str(path), *fixed, *flags]) == 0
    frames = load_frames(out, require_mask=True)
    names = [(frame.file_name, frame.mask_file_name) for frame in frames]
    pictures = [tuple(np.array(Image.open(out / name)) for name in pair) for pair in names]
    return [(frame, *pair) for frame, pair in zip(frames, pictures, strict=True)]


def refuse(capsys, *argv):
    assert main(["prepare", "mesh", *map(str, argv)]) == 2
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    said = [line for line in lines if line.strip() and not line.startswith("mesh:")]
    words = [line.split()[0] for line in said]
    assert words in (["error:"], ["echodiff"], ["skipped:", "echodiff"])
    return said[-1]


def pixel_points(frame, shape):
    plane = json.loads(frame.record)["plane"]
    assert frame.spacing_mm == pytest.approx(plane["spacing_mm"], abs=1e-6)
    rows, columns = np.indices(shape) * plane["spacing_mm"]
    down, right = np.array(plane["down"]), np.array(plane["right"])
    return np.array(plane["origin_mm"]) + rows[..., None] * down + columns[..., None] * right


def share_wrong(mask, truth):
    """Share of the pixels whose label is not that of the truth within one pixel."""
    fits = np.zeros(mask.shape, bool)
    for label in np.unique(mask):
        fits |= (mask == label) & ndimage.binary_dilation(truth == label, np.ones((3, 3)))
    return 1 - fits.mean()


def middle(mask, label):
    return np.argwhere(mask == label).mean(axis=0)


@pytest.fixture(scope="module")
def four_kinds(tmp_path_factory):
    src, out = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("frames")
    kinds = {
        "glb": (write_glb(src / "heart.glb"),),
        "folder": (write_folder(src / "heart"),),
        "vtu": (write_cells(src / "heart.vtu"), "--parts", "labels"),
        "nii": (write_volume(src / "heart.nii.gz"),),
    }
    return {
        kind: prepare(path, out / kind, "--no-complete", *flags)
        for kind, (path, *flags) in kinds.items()
    }


@pytest.mark.parametrize("kind", ["glb", "folder", "vtu", "nii"])
def test_every_kind_of_model_is_cut_where_the_record_says(four_kinds, kind):
    frames = four_kinds[kind]
    assert [frame.view for frame, *_ in frames] == ["A2C"] * 2 + ["A4C"] * 2 + ["SAX"] * 2
    for frame, image, mask in frames:
        assert image.shape == mask.shape == (96, 96)
        seen = image > 0
        truth = np.where(seen, label_heart(pixel_points(frame, mask.shape)), 0)
        inner = ndimage.binary_erosion(seen, np.ones((3, 3)))
        assert share_wrong(np.where(inner, mask, 0), np.where(inner, truth, 0)) < 2e-3
        assert not mask[~ndimage.binary_dilation(seen, np.ones((3, 3)))].any()
        assert (frame.patient_id, frame.modality) == ("heart", "pseudo")
        assert (frame.split, frame.source) == ("train", "mesh")


def test_all_kinds_give_the_same_pictures(four_kinds):
    for kind in ("folder", "vtu", "nii"):
        for (_, _, mask), (_, _, other) in zip(four_kinds["glb"], four_kinds[kind], strict=True):
            assert share_wrong(mask, other) < 0.01


def test_the_left_ventricle_is_on_the_right_and_the_front_wall_too_or_at_the_top(four_kinds):
    for frame, _, mask in (frame for frames in four_kinds.values() for frame in frames):
        if frame.view == "A4C":
            (lv, la, rv, ra) = (middle(mask, label) for label in CHAMBERS)
            assert lv[1] > rv[1] + 10
            assert la[1] > ra[1] + 10
            assert la[0] > lv[0] + 10
            assert ra[0] > rv[0] + 10
        elif frame.view == "A2C":
            assert middle(mask, Label.LA)[0] > middle(mask, Label.LV)[0] + 10
            assert middle(mask, Label.AORTA)[1] > middle(mask, Label.LA)[1] + 8
        else:
            lv, rv, trunk = (middle(mask, x) for x in (Label.LV, Label.RV, Label.PULMONARY_ARTERY))
            assert lv[1] > rv[1] + 10
            assert trunk[0] < lv[0] - 8


def test_a_mirrored_heart_is_not_mirrored_back(tmp_path):
    path = write_volume(tmp_path / "heart.nii.gz", turn=TURN @ MIRROR)
    for _, _, mask in prepare(path, tmp_path / "frames", "--views", "SAX", slices=3):
        lv, rv, trunk = (middle(mask, x) for x in (Label.LV, Label.RV, Label.PULMONARY_ARTERY))
        assert lv[1] > rv[1] + 10
        assert trunk[0] > lv[0] + 8


def test_cavities_are_found_between_walls(tmp_path):
    path = write_cells(tmp_path / "heart.vtu", tag_walls, name="ID")
    for frame, image, mask in prepare(path, tmp_path / "frames", "--no-complete"):
        truth = np.where(image > 0, label_heart(pixel_points(frame, mask.shape)), 0)
        assert share_wrong(mask, truth) < 0.03
        for label in CHAMBERS:
            here, there = mask == label, truth == label
            assert 2 * (here & there).sum() >= 0.93 * (here.sum() + there.sum())


def test_what_a_model_lacks_is_drawn(tmp_path):
    blood = label_heart(voxels(1.6)[0])
    blood[~np.isin(blood, CHAMBERS)] = 0
    path = write_volume(tmp_path / "heart.nii.gz", blood, step=1.6)
    bare, _, mask = prepare(path, tmp_path / "bare", "--views", "A4C", "--no-complete")[0]
    assert set(np.unique(mask)) == {0, *CHAMBERS}
    full, _, mask = prepare(path, tmp_path / "full", "--views", "A4C")[0]
    walls = {Label.LV_MYOCARDIUM, Label.RV_MYOCARDIUM, Label.ATRIAL_WALL, Label.PERICARDIUM}
    assert set(np.unique(mask)) == {0, *CHAMBERS, *walls}
    assert json.loads(bare.record)["added"] == []
    assert set(json.loads(full.record)["added"]) == {label.name for label in walls}


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("VH_M_heart_left_ventricle", "LV?"),
        ("VH_M_right_cardiac_atrium", "RA?"),
        ("VH_M_interventricular_septum", "VENTRICULAR_SEPTUM"),
        ("VH_M_papillary_muscle_of_heart_medial", "NONE"),
        ("VH_M_mitral_valve", "VALVE"),
        ("heart_myocardium", "LV_WALL"),
        ("heart_atrium_left", "LA?"),
        ("LeftVentricleBloodPool", "LV"),
        ("RV_endo", "RV"),
        ("LV_epi", "LV_WALL"),
        ("pulmonary_vein", "VEIN"),
        ("pulmonary_valve", "PULMONARY_VALVE"),
        ("pulmonary_artery", "PULMONARY_ARTERY"),
        ("left_coronary_artery", "NONE"),
        ("coronary_sinus", "VEIN"),
        ("interatrial septum", "ATRIAL_SEPTUM"),
        ("liver", None),
        ("left", None),
    ],
)
def test_names_of_parts(name, word):
    assert name_part(name) == word


def test_the_same_slice_comes_whatever_else_is_asked_for(tmp_path):
    path = write_volume(tmp_path / "heart.nii.gz", step=1.6)
    few = prepare(path, tmp_path / "few", "--views", "A2C", slices=1)
    many = prepare(path, tmp_path / "many", slices=2)
    ((_, image, mask),) = few
    again = next(entry for entry in many if entry[0].view == "A2C")
    assert (image == again[1]).all()
    assert (mask == again[2]).all()
    other = prepare(path, tmp_path / "other", "--views", "A2C", "--seed", "1", slices=1)
    assert (mask != other[0][2]).any()


def test_models_are_patients(tmp_path):
    src = tmp_path / "сердца"
    src.mkdir()
    for name in ("a test", "b", "c"):
        write_volume(src / f"{name}.nii.gz", step=1.6)
    frames = prepare(src, tmp_path / "frames", "--views", "SAX", "--split", "1/1/1", slices=2)
    homes = {frame.patient_id: set() for frame, *_ in frames}
    for frame, *_ in frames:
        homes[frame.patient_id].add(frame.split)
        assert frame.extra["slice"] in frame.text
    assert sorted(homes) == ["a test", "b", "c"]
    assert sorted(map(sorted, homes.values())) == [["test"], ["train"], ["val"]]


def test_parts_can_be_named(tmp_path, capsys):
    scene = trimesh.Scene()
    for number, name in enumerate(NAMES):
        scene.add_geometry(build_part(name), node_name=f"Mesh{number}", geom_name=f"g{number}")
    path = tmp_path / "heart.glb"
    path.write_bytes(scene.export(file_type="glb"))
    line = refuse(capsys, path, "--out", tmp_path / "x")
    assert "part 'Mesh0' is not recognised" in line
    words = {label: label.name for label in Label} | {Label.LV_MYOCARDIUM: "LV_WALL"}
    words |= {Label.RV_MYOCARDIUM: "RV_WALL", Label.ATRIAL_WALL: "LA_WALL"}
    table = tmp_path / "parts.yaml"
    table.write_text("".join(f"mesh{i}: {words[part[1]]}\n" for i, part in enumerate(HEART)))
    frames = prepare(path, tmp_path / "frames", "--parts", str(table), slices=1)
    assert len(frames) == 3
    table.write_text("mesh0: KIDNEY\n")
    assert "KIDNEY is not one of LV," in refuse(
        capsys, path, "--parts", table, "--out", tmp_path / "x"
    )
    assert "is neither a .yaml file nor one of labels," in refuse(
        capsys, path, "--parts", "acdc", "--out", tmp_path / "x"
    )


def write_cut_ply(path):
    text = build_part("aorta").export(file_type="ply", encoding="ascii")
    path.write_bytes(text[: len(text) * 9 // 10])


def write_grey(path):
    return write_volume(path, np.random.default_rng(0).integers(0, 999, (50, 50, 50)))


BAD = {
    "cut.glb": (lambda p: p.write_bytes(write_glb(p).read_bytes()[:20000]), "cut.glb: damaged"),
    "empty.glb": (lambda p: p.write_bytes(b""), "empty.glb: damaged"),
    "noise.stl": (lambda p: p.write_bytes(bytes(range(256)) * 40), "noise.stl"),
    "cut.ply": (write_cut_ply, "truncated"),
    "noise.ply": (lambda p: p.write_bytes(b"ply\n" + bytes(500)), "noise.ply"),
    "cut.vtu": (lambda p: p.write_bytes(write_cells(p, step=4).read_bytes()[:9000]), "truncated"),
    "cut.vtk": (lambda p: p.write_bytes(write_cells(p, step=4).read_bytes()[:-5000]), "truncated"),
    "noise.vtk": (lambda p: p.write_bytes(bytes(range(256))), "noise.vtk"),
    "surface.vtk": (lambda p: pyvista.Sphere().save(p), "has no volume mesh"),
    "tags.vtu": (lambda p: write_cells(p, lambda x: 30 + label_heart(x), step=4), "part 30 is not"),
    "cut.nii.gz": (
        lambda p: p.write_bytes(write_volume(p, step=1.6).read_bytes()[:3000]), ".gz: damaged"
    ),
    "grey.nii.gz": (write_grey, "has grey values instead of labels"),
    "lost.nii.gz": (lambda p: write_volume(p, step=1.6, is_placed=False), "has no affine"),
    "other.nii": (
        lambda p: write_volume(p, 20 + label_heart(voxels(2)[0]), step=2), "part 20 is not in table"
    ),
    "small.glb": (lambda p: write_glb(p, scale=0.3e-3 / 8), "has a diagonal of"),
    "half.glb": (lambda p: write_glb(p, parts=NAMES[:6]), "has no LV cavity"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_one_line(tmp_path, capfd, name):
    write, message = BAD[name]
    write(tmp_path / name)
    line = refuse(capfd, tmp_path / name, "--out", tmp_path / "frames")
    assert name in line
    assert message in line
    assert not (tmp_path / "frames" / "metadata.jsonl").exists()


def test_flags_are_checked(tmp_path, capsys):
    path, out = write_volume(tmp_path / "heart.nii", step=3), ("--out", tmp_path / "frames")
    line = refuse(capsys, path, *out, "--views", "PLAX")
    assert "--views: PLAX is not one of A4C, A2C, SAX" in line
    assert "--slices must be at least 1" in refuse(capsys, path, *out, "--slices", "0")
    assert "--unit must be one of" in refuse(capsys, path, *out, "--unit", "inch")
    assert "m does not give a heart of 50-400 mm" in refuse(capsys, path, *out, "--unit", "m")
    assert "no such file" in refuse(capsys, tmp_path / "none", *out)


def test_a_missing_library_is_named(tmp_path, capsys, monkeypatch):
    path = write_glb(tmp_path / "heart.glb")
    monkeypatch.setitem(__import__("sys").modules, "trimesh", None)
    told = refuse(capsys, path, "--out", tmp_path / "frames")
    assert "reading it needs the package trimesh: pip install 'echodiff[mesh]'" in told


@pytest.mark.skipif(not REAL.is_file(), reason="the Visible Human heart is not here")
def test_the_visible_human_heart_has_four_chambers_where_they_belong(tmp_path):
    frames = prepare(REAL, tmp_path / "frames", "--no-complete", size=128)
    num_open = 0
    for frame, _, mask in frames:
        hole = ndimage.binary_fill_holes(mask) & (mask == 0)
        assert hole.sum() * frame.spacing_mm**2 < 100  # mm2 that no chamber has taken
        num_open += (np.isin(mask, CHAMBERS) & ndimage.binary_dilation(mask == 0)).sum()
        record = json.loads(frame.record)
        marks = {name: np.array(place) for name, place in record["landmarks_mm"].items()}
        assert record["unit"] == "m"
        assert 65 < np.linalg.norm(marks["apex"] - marks["mitral"]) < 80
        assert 35 < np.linalg.norm(marks["tricuspid"] - marks["mitral"]) < 55
        area_cm2 = {label: (mask == label).sum() * frame.spacing_mm**2 / 100 for label in Label}
        if frame.view == "A4C":
            lv, la, rv, ra = (middle(mask, label) for label in CHAMBERS)
            assert lv[1] > rv[1] + 10
            assert la[1] > ra[1] + 10
            assert min(la[0] - lv[0], ra[0] - rv[0]) > 10
            assert 12 < area_cm2[Label.LV] < 25
            assert all(area_cm2[label] > 3 for label in CHAMBERS)
            assert area_cm2[Label.VALVE] > 0.5
        elif frame.view == "A2C":
            assert middle(mask, Label.LA)[0] > middle(mask, Label.LV)[0] + 10
            assert area_cm2[Label.LV] > 12
            assert area_cm2[Label.RA] == 0
        else:
            assert middle(mask, Label.LV)[1] > middle(mask, Label.RV)[1] + 10
    assert num_open < 25  # pixels of blood that no wall keeps in


def test_training_takes_it(tmp_path, assert_accepted):
    write_glb(tmp_path / "heart.glb")
    prepare(tmp_path / "heart.glb", tmp_path / "out", "--no-complete", slices=4)
    assert_accepted(tmp_path / "out")
