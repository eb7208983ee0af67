"""Fusion against the literal matrix product of Eq. 7-8, deconvolutions against a pixel shuffle and against shapes."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ristn_cli.model.reconstruction import Reconstruction, SparseFusion, TemporalOnly


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_sparse_fusion_is_the_matrix_product_of_equations_7_and_8() -> None:
    torch.manual_seed(0)
    fusion = SparseFusion(spatial_channels=4, temporal_channels=6)
    assert fusion.matrix.shape == (8, 4)
    spatial, temporal = noise(2, 4, 3, 5), noise(2, 6, 3, 5, seed=2)
    assert fusion.mapping.bias is not None
    fused = fusion(spatial, temporal)
    assert fused.shape == (2, 4, 3, 5)
    for n, row, column in ((0, 0, 0), (1, 2, 4), (0, 1, 3)):
        mapped = fusion.mapping.weight[:, :, 0, 0] @ temporal[n, :, row, column] + fusion.mapping.bias
        joined = torch.cat([mapped, spatial[n, :, row, column]])
        torch.testing.assert_close(fused[n, :, row, column], joined @ fusion.matrix)


@torch.no_grad()
def test_temporal_share_is_the_energy_from_the_temporal_rows() -> None:
    torch.manual_seed(0)
    fusion = SparseFusion(spatial_channels=4, temporal_channels=6)
    spatial, temporal = noise(2, 4, 3, 5), noise(2, 6, 3, 5, seed=2)
    share = float(fusion.temporal_share(spatial, temporal))
    assert 0 < share < 1
    assert fusion.mapping.bias is not None
    mapped = torch.einsum("oc,nchw->nohw", fusion.mapping.weight[:, :, 0, 0], temporal)
    mapped += fusion.mapping.bias[:, None, None]
    upper = torch.einsum("co,nchw->nohw", fusion.matrix[:4], mapped).square().sum()
    lower = torch.einsum("co,nchw->nohw", fusion.matrix[4:], spatial).square().sum()
    assert share == pytest.approx(float(upper / (upper + lower)), rel=1e-5)
    assert float(fusion.temporal_share(torch.zeros_like(spatial), temporal)) == pytest.approx(1)
    fusion.matrix[:4] = 0
    assert float(fusion.temporal_share(spatial, temporal)) == 0
    fusion.matrix.zero_()
    assert float(fusion.temporal_share(spatial, temporal)) == 0  # not 0 / 0


@torch.no_grad()
def test_no_fusion_reads_the_temporal_features_alone() -> None:
    torch.manual_seed(0)
    fusion = TemporalOnly(spatial_channels=4, temporal_channels=6)
    temporal = noise(1, 6, 3, 5)
    fused = fusion(noise(1, 4, 3, 5), temporal)
    assert torch.equal(fused, fusion(torch.zeros(1, 4, 3, 5), temporal))
    assert fusion.mapping.bias is not None
    expected = torch.einsum("oc,nchw->nohw", fusion.mapping.weight[:, :, 0, 0], temporal)
    torch.testing.assert_close(fused, expected + fusion.mapping.bias[:, None, None])


@torch.no_grad()
def test_a_deconvolution_of_2_is_a_1x1_convolution_and_a_pixel_shuffle() -> None:
    torch.manual_seed(0)
    reconstruction = Reconstruction(5, (6, 4), kernel=2, zero_start=False)
    x = y = noise(2, 5, 3, 4)
    for deconvolution in reconstruction.deconvolutions:
        width = deconvolution.weight.shape[1]
        # (in, out, 2, 2) to (out * 2 * 2, in, 1, 1): channel out * 4 + 2 * row + column is that pixel of the block.
        weight = deconvolution.weight.permute(1, 2, 3, 0).reshape(4 * width, -1, 1, 1)
        y = F.relu(F.pixel_shuffle(F.conv2d(y, weight, deconvolution.bias.repeat_interleave(4)), 2))
    torch.testing.assert_close(reconstruction(x), reconstruction.last(y))


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (8, 2)])
@torch.no_grad()
def test_both_kernels_give_four_times_the_size(kernel: int, height: int, width: int) -> None:
    reconstruction = Reconstruction(6, (4, 3), kernel=kernel, zero_start=False)
    assert reconstruction(noise(2, 6, height, width)).shape == (2, 3, 4 * height, 4 * width)


@pytest.mark.parametrize("kernel", [2, 3])
def test_parameters(kernel: int) -> None:
    reconstruction = Reconstruction(7, (5, 4), kernel=kernel, zero_start=True)
    expected = (7 * kernel**2 + 1) * 5 + (5 * kernel**2 + 1) * 4 + (4 * 9 + 1) * 3
    assert sum(parameter.numel() for parameter in reconstruction.parameters()) == expected


@torch.no_grad()
def test_a_zero_start_gives_black() -> None:
    reconstruction = Reconstruction(6, (4, 3), kernel=2, zero_start=True)
    assert not reconstruction(noise(1, 6, 3, 3)).any()
