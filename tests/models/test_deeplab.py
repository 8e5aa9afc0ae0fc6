"""DeepLabV3 is torchvision's, and DeepLabV3+ what the paper adds to it."""

from itertools import repeat

import networks
import pytest
import torch
from torch import Tensor
from torchvision.models import get_model
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.segmentation import (
    DeepLabV3_ResNet50_Weights,
    DeepLabV3_ResNet101_Weights,
    deeplabv3_resnet50,
)

from eosvos.config.meta import InnerLR
from eosvos.errors import UserError
from eosvos.meta.learner import MetaLearner, total_loss
from eosvos.models.deeplab import DeepLabV3, dilate
from eosvos.models.fpn import IMAGENET_MEAN, IMAGENET_STD, BackboneWithFPN
from eosvos.models.norms import replace_norms

COCO = {"resnet50": DeepLabV3_ResNet50_Weights, "resnet101": DeepLabV3_ResNet101_Weights}
BOTH = pytest.mark.parametrize("decoder", [False, True], ids=["v3", "v3+"])


def shallow(**options) -> DeepLabV3:
    """On a ResNet of one block a stage, the least that torchvision makes."""
    torch.manual_seed(0)
    body = IntermediateLayerGetter(
        ResNet(BasicBlock, [1, 1, 1, 1]), {f"layer{i + 1}": str(i) for i in range(4)}
    )
    backbone = BackboneWithFPN(replace_norms(body, "group32"), (64, 128, 256, 512), (4, 8, 16, 32), 4)
    return networks.deeplabv3(backbone, **options)


def example(height: int = 32, width: int = 48) -> tuple[Tensor, Tensor]:
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(1, height, width, dtype=torch.uint8)
    masks[:, height // 4 : height // 2, width // 3 : width // 2] = 1
    masks[:, :2] = 255
    return images, masks


def with_random_statistics(network: torch.nn.Module) -> torch.nn.Module:
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.1)
    return network.eval()


@torch.no_grad()
def test_with_frozen_statistics_it_computes_what_torchvisions_does(tmp_path):
    torch.manual_seed(0)
    theirs = with_random_statistics(deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=1))
    torch.save(theirs.state_dict(), tmp_path / "deeplab.pth")
    backbone = networks.resnet("resnet50", norm="frozen_batch")
    ours = networks.deeplabv3(backbone, norm="frozen_batch", weights=str(tmp_path / "deeplab.pth"))
    images, _ = example(50, 70)
    mean, std = (torch.tensor(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
    expected = theirs((images - mean) / std)["out"][0, 0].sigmoid()
    expected = expected if expected.max() >= 0.5 else torch.zeros_like(expected)
    assert expected.max() > 0, "an object is found, so that there is something to compare"
    torch.testing.assert_close(ours.segment(ours.features(images), 0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_dilations_are_torchvisions(name, output_stride):
    replaced = [False, output_stride == 8, True]

    def layers(body):
        convolutions = {n: m for n, m in body.named_modules() if isinstance(m, torch.nn.Conv2d)}
        return {n: (m.stride, m.dilation, m.padding) for n, m in convolutions.items()}

    with torch.device("meta"):
        ours = networks.deeplabv3(networks.resnet(name), output_stride=output_stride).backbone
        theirs = get_model(name, weights=None, replace_stride_with_dilation=replaced)
    assert layers(ours) == layers(theirs)


@torch.no_grad()
@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_at_the_places_of_the_strided_network_nothing_changes(name, output_stride):
    torch.manual_seed(0)
    body = with_random_statistics(networks.resnet(name, norm="frozen_batch").body)
    images = torch.rand(1, 3, 64, 96)
    strided = body(images)
    dilate(body, (4, 8, 16, 32), output_stride)
    for stride, (level, dense) in zip((4, 8, 16, 32), body(images).items(), strict=True):
        step = max(1, stride // output_stride)
        assert dense.shape[2:] == (64 * step // stride, 96 * step // stride)
        torch.testing.assert_close(dense[..., ::step, ::step], strided[level], rtol=1e-4, atol=1e-4)


@BOTH
@pytest.mark.parametrize("output_stride", [8, 16])
def test_stride_of_logits_and_dilations_of_the_aspp(decoder, output_stride):
    network = shallow(decoder=decoder, output_stride=output_stride)
    stride = 4 if decoder else output_stride
    assert network(example(33, 47)[0]).shape[2:] == (-(-33 // stride), -(-47 // stride))
    reach = [branch[0].dilation[0] * output_stride for branch in network.classifier[0].convs[1:4]]
    assert reach == [96, 192, 288]


@pytest.fixture
def coco_files(tmp_path, monkeypatch):
    """Put a file like torchvision's into torch's cache: a constant for each tensor, returned by name."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()

    def put(name: str) -> dict[str, float]:
        with torch.device("meta"):
            net = get_model(f"deeplabv3_{name}", weights=None, weights_backbone=None, aux_loss=True)
            state = net.state_dict()
        constants = {key: 0.5 + i / 1000 for i, key in enumerate(state)}
        file = {key: torch.tensor(constants[key]).expand(value.shape) for key, value in state.items()}
        url = COCO[name].COCO_WITH_VOC_LABELS_V1.url
        torch.save(file, tmp_path / "checkpoints" / url.rpartition("/")[2])
        return constants

    return put


@pytest.mark.parametrize(
    ("name", "norm", "decoder"),
    [("resnet50", "group32", True), ("resnet50", "frozen_batch", False), ("resnet101", "group32", False)],
)
def test_coco_fills_all_but_the_last_layer_and_the_decoder(coco_files, name, norm, decoder):
    constants = coco_files(name)
    network = networks.deeplabv3(networks.resnet(name, norm=norm), weights="coco", norm=norm, decoder=decoder)
    own = network.state_dict()
    fresh = {key for key in own if key not in constants or own[key].ne(constants[key]).any()}
    last = {"classifier.4.weight", "classifier.4.bias"}
    assert fresh == last | {key for key in own if key.startswith("decoder.")}
    assert own["classifier.4.weight"].shape == (1, 256, 1, 1)
    assert any(key.endswith("running_var") for key in own) == (norm == "frozen_batch")


def test_coco_that_cannot_be_had_names_the_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def no_network(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(UserError, match=r"put https://.*deeplabv3_resnet50_coco-cd0a2569\.pth at"):
        networks.deeplabv3(networks.resnet("resnet50"), weights="coco")


def test_a_file_of_the_network_itself_is_loaded_whole_and_one_without_decoder_up_to_it(tmp_path):
    source = shallow(decoder=True)
    for value in source.state_dict().values():
        value.add_(1)
    state = source.state_dict()
    torch.save(state, tmp_path / "whole.pth")
    found = shallow(decoder=True, weights=str(tmp_path / "whole.pth")).state_dict()
    assert all(value.equal(state[name]) for name, value in found.items())
    torch.save({n: v for n, v in state.items() if not n.startswith("decoder.")}, tmp_path / "v3.pth")
    found = shallow(decoder=True, weights=str(tmp_path / "v3.pth")).state_dict()
    assert {n for n, v in found.items() if not v.equal(state[n])} == {
        n for n in state if n.startswith("decoder.")
    }
    torch.save({n: v for n, v in state.items() if "convs.4" not in n}, tmp_path / "less.pth")
    with pytest.raises(UserError, match=r"less\.pth.*classifier\.0\.convs\.4\.1\.weight.* is missing"):
        shallow(weights=str(tmp_path / "less.pth"))


@BOTH
def test_one_image_gives_every_weight_a_gradient_and_dropout_is_off(decoder):
    network = shallow(decoder=decoder).train()
    losses = network.losses(*example())
    assert list(losses) == ["loss_dice", "loss_bce"]
    assert losses == network.losses(*example())
    gradients = torch.autograd.grad(sum(losses.values()), list(network.parameters()))
    assert all(g.isfinite().all() and g.ne(0).any() for g in gradients)
    assert list(network.buffers()) == []


@BOTH
def test_the_prior_makes_no_difference(decoder):
    network = shallow(decoder=decoder)
    network.classifier[4].bias.data.fill_(3.0)
    features = network.features(example()[0])
    plain = network.segment(features, 0)
    assert plain.max() > 0.5
    assert network.segment(features, 0, torch.tensor([1.0, 1, 9, 9]), redetect=True).equal(plain)


def test_heads_are_all_but_the_resnet():
    network = shallow(decoder=True)
    heads = {id(p) for p in network.head_parameters()}
    for name, parameter in network.named_parameters():
        assert (id(parameter) in heads) == (name.partition(".")[0] in ("classifier", "decoder"))


def test_frozen_stages_and_a_frozen_encoder_stay_as_they_are():
    backbone = networks.resnet("resnet18", fpn_channels=4, frozen_stages=2)
    network = networks.deeplabv3(backbone)
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert {name.split(".")[1] for name in frozen} == {"conv1", "bn1", "layer1", "layer2"}
    learner = MetaLearner(network, InnerLR(init=0.1), order="second_order_heads")
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    adapted = dict(learner.adapt([example()]).named_parameters())
    assert frozen == {name for name, value in before.items() if adapted[name].equal(value)}

    learner = MetaLearner(shallow(), InnerLR(init=0.1), train_encoder=False)
    assert len(learner.weights()) == len(learner.segmenter.head_parameters())


@BOTH
def test_the_meta_gradient_of_full_second_order_is_that_of_finite_differences(decoder):
    support, query = ((images.double(), masks) for images, masks in (example(16, 16), example(16, 24)))
    network = shallow(decoder=decoder).double()
    errors = {}
    for order in ("first_order", "second_order"):
        learner = MetaLearner(network, InnerLR(level="tensor", init=0.02), order=order).double()
        found = learner.meta_gradient(repeat(support, 2), [query], [0, 1]).gradients
        generator = torch.Generator().manual_seed(2)
        direction = [
            torch.randn(p.shape, generator=generator, dtype=p.dtype) * p.detach().abs().mean()
            for p in learner.meta_parameters()
        ]

        def query_loss(step: float, learner=learner, direction=direction) -> float:
            with torch.no_grad():
                for p, d in zip(learner.meta_parameters(), direction, strict=True):
                    p += step * d
            adapted = learner.adapt(repeat(support, 2))
            with torch.no_grad():
                for p, d in zip(learner.meta_parameters(), direction, strict=True):
                    p -= step * d
            return total_loss(adapted, *query).item()

        along = sum((g * d).sum() for g, d in zip(found, direction, strict=True)).item()
        numeric = (query_loss(1e-6) - query_loss(-1e-6)) / 2e-6
        errors[order] = abs(along - numeric) / abs(numeric)
    assert errors["second_order"] < 1e-4
    assert errors["first_order"] > 1e-2


def test_another_backbone_is_refused():
    with pytest.raises(UserError, match=r"DeepLabV3 .*ResNet of torchvision.*LightDeepLab"):
        networks.deeplabv3(networks.tiny(width=8))
