"""Encoder and decoder over patches: what they compute, and that they fit where the convolutional ones do."""

from __future__ import annotations

import torch
from tensordict import TensorDict
from torch.nn import functional as F

from torchrl_glam.modules import GLAMDynamics, GLAMWorldModel
from torchrl_glam.modules.autoencoders.patch import PatchDecoder, PatchEncoder, from_patches, to_patches
from torchrl_glam.objectives import GLAMModelLoss, total_loss

SIZES = {"image_shape": (16, 24, 3), "channels": (4, 6)}


def make_frames(*shape):
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_patches_are_the_squares_of_the_grid():
    grid = torch.arange(2.0 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    patches = to_patches(grid, 2)
    assert patches.shape == (2, 2, 3, 12)
    assert torch.equal(patches[1, 0, 2], grid[1, 0:2, 4:6].flatten())
    assert torch.equal(from_patches(patches, 2), grid)


def test_encoder_sees_each_patch_by_itself_and_merges_neighbours():
    """The same numbers from ``unfold`` and plain matrix products."""
    torch.manual_seed(0)
    encoder, pixels = PatchEncoder(**SIZES, num_categoricals=2, num_classes=3), make_frames(5, 16, 24, 3)
    logits, features = encoder(pixels)
    frames = pixels.permute(0, 3, 1, 2) / 255.0
    columns = F.unfold(frames, 4, stride=4).transpose(1, 2)  # [n 24 48], by channel, then by pixel
    first = F.layer_norm(columns @ encoder.patches.weight.flatten(1).T, (4,)).relu().reshape(5, 4, 6, 4)
    rows = [first[:, i : i + 2, j : j + 2].reshape(5, -1) for i in (0, 2) for j in (0, 2, 4)]
    second = F.layer_norm(torch.stack(rows, 1) @ encoder.stages[0][0].weight.T, (6,)).relu()
    torch.testing.assert_close(features, second.flatten(1))
    probabilities = encoder.head(features).reshape(5, 2, 3).softmax(-1)
    torch.testing.assert_close(logits.exp(), 0.99 * probabilities + 0.01 / 3)


def test_decoder_draws_each_patch_in_its_place():
    torch.manual_seed(0)
    decoder, state = PatchDecoder(**SIZES, state_size=6), torch.randn(2, 5, 6)
    first = F.layer_norm((state @ decoder.head.weight.T).unflatten(-1, (2, 3, 6)), (6,)).relu()
    merged = (first @ decoder.stages[0][0].weight.T).unflatten(-1, (2, 2, 4))
    second = F.layer_norm(merged, (4,)).relu()
    drawn = decoder.patches(second).unflatten(-1, (4, 4, 3))  # [b t gh gw 2 2 4 4 3]
    assert torch.equal(decoder.background, torch.full((3, 16, 24), 0.5))
    torch.nn.init.uniform_(decoder.background)
    frames = decoder(state) - decoder.background
    assert frames.shape == (2, 5, 3, 16, 24)
    patch = frames[1, 2, :, 8 + 4 : 8 + 8, 16:20]  # the lower left of the four patches of (1, 2)
    torch.testing.assert_close(patch, drawn[1, 2, 1, 2, 1, 0].permute(2, 0, 1))


def test_a_frame_that_is_not_covered_is_padded_with_zeros():
    torch.manual_seed(0)
    odd, even = (PatchEncoder((height, 16, 1), (2, 3), 2, 3) for height in (13, 16))
    odd.load_state_dict(even.state_dict())
    pixels = make_frames(4, 13, 16, 1)
    below = torch.cat([pixels, torch.zeros(4, 3, 16, 1, dtype=torch.uint8)], 1)
    torch.testing.assert_close(odd(pixels), even(below))
    assert PatchDecoder((13, 16, 1), (2, 3), 6)(torch.randn(2, 5, 6)).shape == (2, 5, 1, 13, 16)


def test_the_world_model_learns_through_them():
    torch.manual_seed(0)
    world_model = GLAMWorldModel(
        3, GLAMDynamics(width=8), **SIZES, num_categoricals=2, num_classes=3, encoder=PatchEncoder, decoder=PatchDecoder
    )
    loss, flags = GLAMModelLoss(world_model, motion_weight=30.0), torch.zeros(2, 8, 1, dtype=torch.bool)
    outcome = {"reward": torch.zeros(2, 8, 1), "life_loss": flags}
    batch = {"pixels": make_frames(2, 8, 16, 24, 3), "action": torch.eye(3)[torch.zeros(2, 8, dtype=torch.long)]}
    total_loss(loss(TensorDict({**batch, "next": outcome}, [2, 8]))).backward()
    without = [name for name, weight in world_model.named_parameters() if weight.grad is None]
    assert not without
