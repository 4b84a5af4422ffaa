"""Released checkpoints: layout, golden outputs, and equality with the modules restated in
`official_reference`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from fmfbench.errors import InputError
from fmfbench_models import create_model, load_checkpoint
from fmfbench_models.official import remap_official, unmap_official

HERE = Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("official_reference", HERE / "official_reference.py")
reference = sys.modules.setdefault("official_reference", importlib.util.module_from_spec(SPEC))
SPEC.loader.exec_module(reference)

FORWARD = {"vicu": reference.cross_modal, "video": reference.video_only, "current": reference.current_only}
MODALITY = {"vicu": "both", "video": "visual", "current": "current"}

# kind, task, dilated, frames, length, tensors, parameters
LAYOUTS = [
    ("vicu", "cls", True, 10, 240, 223, 1_923_466),
    ("vicu", "cls", False, 10, 240, 216, 1_877_866),
    ("vicu", "cls", True, 10, 440, 223, 1_942_666),
    ("vicu", "cls", False, 10, 440, 216, 1_897_066),
    ("vicu", "seg", True, 10, 240, 257, 2_419_848),
    ("vicu", "seg", False, 10, 240, 239, 2_207_880),
    ("video", "cls", True, 10, 240, 89, 784_516),
    ("video", "cls", False, 10, 240, 82, 738_916),
    ("video", "cls", True, 8, 240, 89, 776_836),
    ("video", "cls", False, 8, 240, 82, 732_772),
    ("video", "seg", True, 10, 240, 123, 1_280_898),
    ("video", "seg", False, 10, 240, 105, 1_068_930),
    ("current", "cls", False, 10, 240, 78, 693_512),
    ("current", "cls", False, 10, 440, 78, 712_712),
]

GOLDEN = [
    ("vicu", "cls", True, 240, [[3.41858998, 3.61258454], [3.41750200, 3.61158542]]),
    ("vicu", "cls", False, 240, [[3.79610270, 3.95272954], [3.79616333, 3.95278409]]),
    ("vicu", "cls", True, 440, [[3.41747859, 3.61254186], [3.41639612, 3.61154963]]),
    ("vicu", "cls", False, 440, [[3.80089544, 3.95764965], [3.80093743, 3.95768769]]),
    ("video", "cls", True, 240, [[2.65474293, 2.70692333], [2.65587952, 2.70812206]]),
    ("video", "cls", False, 240, [[-0.71447514, -0.67019960], [-0.71147354, -0.66898168]]),
    ("current", "cls", False, 240, [[-1.60782182, -1.73859007], [-1.60780386, -1.73857194]]),
    ("current", "cls", False, 440, [[-1.60777632, -1.73852996], [-1.60776712, -1.73852094]]),
]
GOLDEN_DENSE = [
    ("vicu", True, 1315.167990, [0.12091247, 0.21759900], [0.10318989, 0.22031952]),
    ("vicu", False, 1252.350396, [0.11741127, 0.21764529], [0.09429674, 0.21144113]),
    ("video", True, 1231.104641, [0.11780775, 0.21823955], [0.08716232, 0.21216684]),
    ("video", False, 1228.519603, [0.11691563, 0.21799831], [0.08755887, 0.21209561]),
]


def saved(tmp_path, state, name="anything.bin"):
    torch.save(state, tmp_path / name)
    return tmp_path / name


def output_of(model, video, current):
    with torch.no_grad():
        output = model(video, current)
    return output.pixel_logits if output.logits is None else output.logits


def random_state(shapes, dtype, seed):
    """Random weights of a usual size; running statistics off their defaults, so that batch norm counts."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
            continue
        value = torch.randn(shape, generator=generator, dtype=torch.float64)
        fan_in = torch.Size(shape[1:]).numel() if len(shape) > 1 else 100
        value = value if name.startswith(("pos", "cls")) else value / fan_in**0.5
        if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            value = 1 + value.abs()
        state[name] = value.to(dtype)
    return state


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda row: "-".join(map(str, row[:5])))
def test_layout_is_recognised_from_names_and_shapes(layout, tmp_path):
    kind, task, dilated, frames, length, tensors, parameters = layout
    state = reference.filled(
        reference.shapes(kind, task, dilated=dilated, frames=frames, length=length), torch.float32
    )
    assert len(state) == tensors
    model = load_checkpoint(saved(tmp_path, state))
    assert model.num_parameters() == parameters
    assert model.modality == MODALITY[kind]
    assert model.dense == (task == "seg")
    config = model.meta.config
    assert config["block"] == "official"
    if kind != "current":
        assert (config["num_frames"], config["dilated"]) == (frames, dilated)
    if kind != "video":
        assert config["current_length"] == length
        assert model.meta.protocol["current_seconds"] == length / 2
    assert model.meta.protocol["name"] == "official"
    assert model.meta.normalisation == {"video": "identity", "current": "identity"}
    back = unmap_official(model.state_dict())
    assert set(back) == set(state)
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_names_and_order_of_the_released_file():
    rows = (HERE / "data" / "fmformer_vicu_cls_state_dict.tsv").read_text().splitlines()[1:]
    listed = {
        name: tuple(int(n) for n in shape.split("x")) for name, shape in (row.split("\t") for row in rows)
    }
    assert len(listed) == 223
    assert reference.shapes("vicu") == listed
    ours = create_model("fmformer", preset="official", dense_task=False)
    theirs = unmap_official(ours.state_dict())
    assert {name: tuple(value.shape) for name, value in theirs.items()} == listed
    assert list(remap_official(theirs)) == list(ours.state_dict())


@pytest.mark.parametrize("case", GOLDEN, ids=lambda row: "-".join(map(str, row[:4])))
def test_golden_logits(case, tmp_path):
    kind, task, dilated, length, expected = case
    model = load_checkpoint(
        saved(tmp_path, reference.filled(reference.shapes(kind, task, dilated=dilated, length=length)))
    )
    got = output_of(model, *reference.golden_input(2, 10, length))
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-7)


@pytest.mark.parametrize("case", GOLDEN_DENSE, ids=lambda row: "-".join(map(str, row[:2])))
def test_golden_dense(case, tmp_path):
    kind, dilated, total, corner, middle = case
    model = load_checkpoint(saved(tmp_path, reference.filled(reference.shapes(kind, "seg", dilated=dilated))))
    got = output_of(model, *reference.golden_input(1, 10, 240))
    assert got.sum().item() == pytest.approx(total, abs=1e-5)
    assert got[0, :, 0, 0].tolist() == pytest.approx(corner, abs=1e-7)
    assert got[0, :, 31, 17].tolist() == pytest.approx(middle, abs=1e-7)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda row: "-".join(map(str, row[:5])))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_equals_the_released_modules_on_random_weights(layout, dtype, tolerance, tmp_path):
    kind, task, dilated, frames, length, *_ = layout
    shapes = reference.shapes(kind, task, dilated=dilated, frames=frames, length=length)
    state = random_state(shapes, dtype, seed=frames + length)
    generator = torch.Generator().manual_seed(5)
    video = torch.randint(0, 256, (1, 3, frames, 64, 64), generator=generator, dtype=torch.uint8)
    current = (8000 + 2000 * torch.randn(1, length, 3, generator=generator, dtype=torch.float64)).to(dtype)
    expected = FORWARD[kind](state, video.to(dtype), current, frames=frames)
    got = output_of(load_checkpoint(saved(tmp_path, state)), video, current)
    assert got.dtype == dtype
    assert (got - expected).abs().max() <= tolerance * (expected.abs().max() if dtype == torch.float32 else 1)


def test_shorter_input_takes_the_tables_first_rows(tmp_path):
    state = random_state(reference.shapes("vicu"), torch.float64, seed=3)
    model = load_checkpoint(saved(tmp_path, state))
    video, current = reference.golden_input(1, 8, 100)
    expected = reference.cross_modal(state, video, current, frames=10)
    torch.testing.assert_close(output_of(model, video, current), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("frames", "length", "what"), [(12, 240, "video"), (10, 241, "current")])
def test_longer_input_is_refused(frames, length, what):
    model = create_model("fmformer", preset="official")
    with pytest.raises(InputError, match=f"as the position table holds, got .* of {what}"):
        output_of(model, *reference.golden_input(1, frames, length))


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "model."])
@pytest.mark.parametrize("wrap", ["state_dict", "model_state", "model_state_dict", "net", "somebody's", None])
def test_usual_wrappings(wrap, prefix, tmp_path):
    plain = reference.filled(reference.shapes("current"), torch.float32)
    state = {f"{prefix}{name}": value for name, value in plain.items()}
    around = {"epoch": 3, "optimizer_state_dict": {"state": {}, "param_groups": []}}
    model = load_checkpoint(saved(tmp_path, {wrap: state, **around} if wrap else state))
    assert model.modality == "current"
    assert all(torch.equal(value, plain[name]) for name, value in unmap_official(model.state_dict()).items())


def test_two_models_in_one_file_are_refused(tmp_path):
    state = reference.filled(reference.shapes("current"), torch.float32)
    with pytest.raises(InputError, match="one model in the file, got one each under student, teacher"):
        load_checkpoint(saved(tmp_path, {"student": state, "teacher": state}))


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


def test_refused_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, {"cls_token": Payload()}, "evil.pth")
    with pytest.raises(InputError, match=r"evil\.pth: expected a state dict of plain tensors"):
        load_checkpoint("evil.pth")
    assert not Path("touched").exists()
    saved(tmp_path, {"fc.weight": torch.zeros(2)}, "other.pth")
    with pytest.raises(InputError, match=r"expected the state dict of a released FmFormer.*fc\.weight"):
        load_checkpoint("other.pth")
    state = reference.filled(reference.shapes("vicu"), torch.float32)
    saved(tmp_path, {k: v for k, v in state.items() if k != "pos_embedding2"}, "missing.pth")
    with pytest.raises(InputError, match="pos_embedding2"):
        load_checkpoint("missing.pth")
    saved(tmp_path, state | {"extra.weight": torch.zeros(2)}, "extra.pth")
    with pytest.raises(InputError, match=r"extra\.weight"):
        load_checkpoint("extra.pth")
    saved(tmp_path, state | {"cls_token2": torch.zeros(1, 2, 96)}, "shape.pth")
    with pytest.raises(InputError, match="class_token"):
        load_checkpoint("shape.pth")
    Path("cut.pth").write_bytes(saved(tmp_path, state, "whole.pth").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cut\.pth"):
        load_checkpoint("cut.pth")
    for name, content in [("empty.safetensors", b""), ("text.safetensors", b"hello world, not tensors")]:
        Path(name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            load_checkpoint(name)
    with pytest.raises(InputError, match="got neither"):
        load_checkpoint("nowhere.pth")
    Path("run").mkdir()
    with pytest.raises(InputError, match="expected a run folder"):
        load_checkpoint("run")


def test_older_torch_format(tmp_path):
    state = reference.filled(reference.shapes("current"), torch.float32)
    torch.save(state, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    assert load_checkpoint(tmp_path / "old.bin").modality == "current"
