"""Encoder and decoder: the plan of their layers, and what they compute."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.autoencoders import ImageDecoder, ImageEncoder, preprocess_pixels
from torchrl_glam.modules.autoencoders.image import ChannelsLastGrid


def make_frames(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def with_statistics(module):
    """BatchNorm statistics as after some training, so that eval mode tells whether they are used."""
    generator = torch.Generator().manual_seed(2)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.copy_(torch.randn(norm.num_features, generator=generator))
            norm.running_var.copy_(torch.rand(norm.num_features, generator=generator) + 0.5)
            nn.init.uniform_(norm.weight, 0.5, 2.0, generator=generator)
            nn.init.normal_(norm.bias, generator=generator)
    return module.eval()


def batch_norm(x, norm):
    mean, variance, weight, bias = (
        vector[:, None, None] for vector in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / (variance + norm.eps).sqrt() * weight + bias


def test_plan_of_the_encoder():
    encoder = ImageEncoder()
    layers = list(encoder.convolutions)
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 4 + [nn.Flatten]
    shapes = {name: tuple(parameter.shape) for name, parameter in encoder.named_parameters()}
    assert shapes == {
        "convolutions.0.weight": (32, 3, 4, 4),
        "convolutions.1.weight": (32,),
        "convolutions.1.bias": (32,),
        "convolutions.3.weight": (64, 32, 4, 4),
        "convolutions.4.weight": (64,),
        "convolutions.4.bias": (64,),
        "convolutions.6.weight": (128, 64, 4, 4),
        "convolutions.7.weight": (128,),
        "convolutions.7.bias": (128,),
        "convolutions.9.weight": (256, 128, 4, 4),
        "convolutions.10.weight": (256,),
        "convolutions.10.bias": (256,),
        "head.weight": (1024, 4096),
        "head.bias": (1024,),
    }
    for convolution in layers[:-1:3]:
        assert (convolution.stride, convolution.padding) == ((2, 2), (1, 1))
    assert encoder.num_features == 4096


def test_plan_of_the_decoder():
    decoder = ImageDecoder()
    layers = list(decoder.deconvolutions)
    stage = [nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU]
    first = [nn.Linear, ChannelsLastGrid, nn.BatchNorm2d, nn.ReLU]
    assert [type(layer) for layer in layers] == [*first, *stage * 3, nn.ConvTranspose2d]
    shapes = {name: tuple(parameter.shape) for name, parameter in decoder.named_parameters()}
    assert shapes == {
        "deconvolutions.0.weight": (4096, 1024),
        "deconvolutions.2.weight": (256,),
        "deconvolutions.2.bias": (256,),
        "deconvolutions.4.weight": (256, 128, 4, 4),
        "deconvolutions.5.weight": (128,),
        "deconvolutions.5.bias": (128,),
        "deconvolutions.7.weight": (128, 64, 4, 4),
        "deconvolutions.8.weight": (64,),
        "deconvolutions.8.bias": (64,),
        "deconvolutions.10.weight": (64, 32, 4, 4),
        "deconvolutions.11.weight": (32,),
        "deconvolutions.11.bias": (32,),
        "deconvolutions.13.weight": (32, 3, 4, 4),
        "deconvolutions.13.bias": (3,),
    }
    for convolution in layers[4::3]:
        assert (convolution.stride, convolution.padding) == ((2, 2), (1, 1))


def test_pixels_are_scaled_and_channels_come_first():
    pixels = torch.zeros(2, 4, 6, 3, dtype=torch.uint8)
    pixels[1, 2, 5] = torch.tensor([0, 51, 255], dtype=torch.uint8)
    frames = preprocess_pixels(pixels)
    assert frames.shape == (2, 3, 4, 6)
    assert frames.dtype == torch.float32
    assert frames[1, :, 2, 5].tolist() == pytest.approx([0.0, 0.2, 1.0])
    assert frames.sum().item() == pytest.approx(1.2)


def test_encoder_by_its_formulas():
    torch.manual_seed(0)
    encoder = with_statistics(ImageEncoder((8, 12, 3), (4, 5), 2, 3))
    pixels = make_frames(3, 8, 12, 3)
    hidden = pixels.permute(0, 3, 1, 2) / 255
    for index in (0, 3):
        convolution, norm = encoder.convolutions[index], encoder.convolutions[index + 1]
        hidden = nn.functional.conv2d(hidden, convolution.weight, stride=2, padding=1)
        hidden = batch_norm(hidden, norm).clamp_min(0)
    features = hidden.flatten(1)
    p = (features @ encoder.head.weight.T + encoder.head.bias).reshape(3, 2, 3).softmax(-1)
    log_probabilities, came = encoder(pixels)
    torch.testing.assert_close(came, features)
    torch.testing.assert_close(log_probabilities, (0.99 * p + 0.01 / 3).log())


def test_decoder_by_its_formulas():
    torch.manual_seed(0)
    decoder = with_statistics(ImageDecoder((8, 12, 3), (4, 5), 6))
    state = torch.randn(3, 6)
    layers = decoder.deconvolutions
    hidden = batch_norm((state @ layers[0].weight.T).reshape(3, 5, 2, 3), layers[2]).clamp_min(0)
    hidden = nn.functional.conv_transpose2d(hidden, layers[4].weight, stride=2, padding=1)
    hidden = batch_norm(hidden, layers[5]).clamp_min(0)
    wanted = nn.functional.conv_transpose2d(hidden, layers[7].weight, layers[7].bias, stride=2, padding=1)
    torch.testing.assert_close(decoder(state), wanted)
    layers[7].bias.data += 10
    assert decoder(state).min() > 1, "frames are not bounded to 0..1"


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (2, 1, 3)])
def test_any_leading_shape(leading):
    torch.manual_seed(0)
    encoder = with_statistics(ImageEncoder((8, 8, 3), (4, 5), 2, 3))
    decoder = with_statistics(ImageDecoder((8, 8, 3), (4, 5), 6))
    pixels, states = make_frames(*leading, 8, 8, 3), torch.randn(*leading, 6)
    log_probabilities, features = encoder(pixels)
    frames = decoder(states)
    assert log_probabilities.shape == (*leading, 2, 3)
    assert features.shape == (*leading, 5 * 2 * 2)
    assert frames.shape == (*leading, 3, 8, 8)
    one = (0,) * len(leading)
    torch.testing.assert_close(log_probabilities[one], encoder(pixels[one])[0])
    torch.testing.assert_close(features[one], encoder(pixels[one])[1])
    torch.testing.assert_close(frames[one], decoder(states[one]))


def test_grid_keeps_the_order_of_channels():
    grid = ChannelsLastGrid((2, 1, 3))(torch.arange(12.0).reshape(2, 6))
    assert grid.tolist() == [[[[0, 1, 2]], [[3, 4, 5]]], [[[6, 7, 8]], [[9, 10, 11]]]]


def test_unimix_is_an_option():
    torch.manual_seed(0)
    plain, mixed = (ImageEncoder((8, 8, 3), (4,), 2, 3, unimix=unimix).eval() for unimix in (0.0, 0.5))
    mixed.load_state_dict(plain.state_dict())
    pixels = make_frames(4, 8, 8, 3)
    torch.testing.assert_close(mixed(pixels)[0].exp(), 0.5 * plain(pixels)[0].exp() + 0.5 / 3)


@pytest.mark.parametrize("network", [ImageEncoder, ImageDecoder])
@pytest.mark.parametrize("shape", [(64, 64), (1, 64, 64, 3), (0, 64, 3)])
def test_what_is_no_shape_of_an_image_is_refused(network, shape):
    with pytest.raises(UsageError, match=r"image_shape is .*: give \(height, width, channels\)"):
        network(shape)


def test_a_frame_that_does_not_halve_is_padded_with_zeros():
    torch.manual_seed(0)
    odd, even = (ImageEncoder((height, 12, 1), (2, 3), 2, 3).eval() for height in (9, 12))
    odd.load_state_dict(even.state_dict())
    pixels = make_frames(4, 9, 12, 1)
    below = torch.cat([pixels, torch.zeros(4, 3, 12, 1, dtype=torch.uint8)], 1)
    torch.testing.assert_close(odd(pixels), even(below))
    decoder = ImageDecoder((9, 12, 1), (2, 3), 6)
    assert decoder(torch.randn(2, 5, 6)).shape == (2, 5, 1, 9, 12)
