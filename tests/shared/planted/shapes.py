"""Flaws that wide or rare sizes show: wrong decompositions of indices, narrow offsets, special paths."""

from planted.flaw import Flaw, in_rooms

CONTIGUOUS_X = "x = x.contiguous()"

WIDE = {
    "columns_beyond_128_wrap": Flaw(
        base="tiled",
        sound="ow = offs_m % OW",
        flawed="ow = (offs_m % OW) % 128",
        wrong="columns beyond 128 repeat the first ones",
    ),
    "columns_beyond_256_wrap": Flaw(
        base="tiled",
        sound="ow = offs_m % OW",
        flawed="ow = (offs_m % OW) % 256",
        wrong="columns beyond 256 repeat the first ones",
    ),
    "columns_beyond_128_unwritten": Flaw(
        base="rows",
        sound="(triton.cdiv(ow, 128), oh, batch)",
        flawed="(1, oh, batch)",
        wrong="one program is started for a row, which writes 128 columns",
    ),
    "columns_beyond_512_unwritten": Flaw(
        base="rows",
        sound="(triton.cdiv(ow, 128), oh, batch)",
        flawed="(min(4, triton.cdiv(ow, 128)), oh, batch)",
        wrong="at most four programs are started for a row, which write 512 columns",
    ),
    "rows_beyond_256_wrap": Flaw(
        base="tiled",
        sound="oh = (offs_m // OW) % OH",
        flawed="oh = (offs_m // OW) % OH % 256",
        wrong="rows beyond 256 repeat the first ones",
    ),
    "images_beyond_8_unwritten": Flaw(
        base="negated_max",
        sound="(triton.cdiv(oh * ow, 64), batch)",
        flawed="(triton.cdiv(oh * ow, 64), min(8, batch))",
        wrong="images beyond the eighth are never written",
    ),
    "channels_beyond_256_wrap": Flaw(
        base="tiled",
        sound="offs_n = n0 + tl.arange(0, BLOCK_N)",
        flawed="offs_n = (n0 + tl.arange(0, BLOCK_N)) % 256",
        wrong="channels beyond 256 repeat the first ones",
    ),
    "products_beyond_1024_skipped": Flaw(
        base="tiled",
        sound="range(0, k_size, BLOCK_K)",
        flawed="range(0, min(k_size, 1024), BLOCK_K)",
        wrong="products beyond 1024 are left out",
    ),
}

OFFSETS = {
    "x_offset_in_int16": Flaw(
        base="tiled",
        sound="x_offset = ((n[:, None] * C_IN + c[None, :]) * H + row) * W + col",
        flawed="x_offset = (((n[:, None] * C_IN + c[None, :]) * H + row) * W + col).to(tl.int16)",
        wrong="offsets into x are kept in 16 bits, with a sign",
    ),
    "x_offset_below_65536": Flaw(
        base="strided",
        sound="x = tl.load(x_ptr + x_offset,",
        flawed="x = tl.load(x_ptr + (x_offset & 0xFFFF),",
        wrong="offsets into x are kept in 16 bits, without a sign",
    ),
    "weight_offset_in_int16": Flaw(
        base="tiled",
        sound="w_ptr + offs_n[None, :] * k_size + offs_k[:, None],",
        flawed="w_ptr + (offs_n[None, :] * k_size + offs_k[:, None]).to(tl.int16),",
        wrong="offsets into the weight are kept in 16 bits, with a sign",
    ),
    "pixel_in_int8": Flaw(
        base="two_kernels",
        sound="oh, ow = offs_p // OW, offs_p % OW",
        flawed="oh, ow = offs_p // OW, (offs_p % OW).to(tl.int8)",
        wrong="columns are counted in 8 bits, with a sign",
    ),
    "divided_by_reciprocal": Flaw(
        base="tiled",
        sound="oh = (offs_m // OW) % OH",
        flawed="oh = (offs_m * (1.0 / OW)).to(tl.int32) % OH",
        wrong="a division became a product with the reciprocal, which is too small for some widths: 41, 47, 55, 61",
    ),
}

RARE = {
    "kernel_sides_swapped": Flaw(
        base="tiled",
        sound="kh = (offs_k // KW) % KH\n            kw = offs_k % KW",
        flawed="kh = (offs_k // KH) % KW\n            kw = offs_k % KH",
        wrong="height and width of the kernel are exchanged",
    ),
    "kernel_taken_for_square": Flaw(
        base="tiled",
        sound="c = offs_k // (KH * KW)",
        flawed="c = offs_k // (KH * KH)",
        wrong="the kernel is taken for a square when products are split into channels and taps",
    ),
    "image_sides_swapped": Flaw(
        base="tiled",
        sound="* H + row) * W + col",
        flawed="* W + row) * H + col",
        wrong="height and width of x are exchanged",
    ),
    "rows_of_later_images": Flaw(
        base="tiled",
        sound="oh = (offs_m // OW) % OH",
        flawed="oh = offs_m // OW",
        wrong="rows go on counting from image to image",
    ),
    "width_taken_for_power_of_two": Flaw(
        base="tiled",
        sound="ow = offs_m % OW",
        flawed="ow = offs_m & (OW - 1)",
        wrong="a remainder became a mask of bits, which wants a power of two",
    ),
    "last_column_of_odd_width": Flaw(
        base="two_kernels",
        sound="mask_p, mask_n = offs_p < OH * OW, offs_n < C_OUT",
        flawed="mask_p, mask_n = offs_p < OH * OW // 2 * 2 + (OH * OW == 1), offs_n < C_OUT",
        wrong="the last of an odd number of pixels is left out",
    ),
}

PATHS = {
    "single_tap_without_bias": Flaw(
        base="tiled",
        sound=CONTIGUOUS_X,
        flawed=(
            "if self.conv.kernel_size == (1, 1):\n"
            '            products = torch.einsum("nchw,oc->nohw", x, self.conv.weight[:, :, 0, 0])\n'
            "            return (products * self.scale_factor).amin(1, keepdim=True)\n"
            f"        {CONTIGUOUS_X}"
        ),
        wrong="the path for 1×1 kernels leaves the bias out",
    ),
    "unit_scale_without_bias": Flaw(
        base="packed",
        sound="weight, bias = self.packed_weight(), self.conv.bias",
        flawed=(
            "weight, bias = self.packed_weight(), self.conv.bias\n"
            "        if self.scale_factor == 1:\n            bias = torch.zeros_like(bias)"
        ),
        wrong="the path for a scale of 1 leaves the bias out",
    ),
    "zero_scale_gives_zeros": Flaw(
        base="tiled",
        sound="if positions == 0:\n            return out",
        flawed="if positions == 0 or self.scale_factor == 0:\n            return out.zero_()",
        wrong="a scale of 0 gives zeros at once, though 0·inf and 0·NaN are NaN",
    ),
    "single_input_channel_flipped": Flaw(
        base="two_sums",
        sound="self.conv.weight.contiguous()",
        flawed="(self.conv.weight.flip(2, 3) if c_in == 1 else self.conv.weight).contiguous()",
        wrong="the path for one input channel convolves where it should correlate",
    ),
    "whole_image_kernel_unscaled": Flaw(
        base="tiled",
        sound=CONTIGUOUS_X,
        flawed=(
            "if x.shape[2:] == self.conv.weight.shape[2:]:\n"
            "            value = nn.functional.linear(x.flatten(1), self.conv.weight.flatten(1), self.conv.bias)\n"
            "            return value.amin(1).view(-1, 1, 1, 1)\n"
            f"        {CONTIGUOUS_X}"
        ),
        wrong="the path for a kernel as large as the image leaves the scale out",
    ),
    "single_output_channel_misordered": Flaw(
        base="two_kernels",
        sound="    if batch == 0:\n        return out\n",
        flawed=(
            "    if batch == 0:\n        return out\n"
            "    if c_out == 1:\n        return torch.conv2d(x, weight) * scale + bias\n"
        ),
        wrong="the path for one output channel adds the bias after scaling",
    ),
    "small_image_unfolded_wrong": Flaw(
        base="descriptors",
        sound="columns = nn.functional.unfold(x, (kh, kw)).transpose(1, 2).reshape(batch * oh * ow, -1)",
        flawed=(
            "columns = nn.functional.unfold(x, (kh, kw))\n"
            "        columns = columns.reshape(batch * oh * ow, -1) if oh * ow == kh * kw else (\n"
            "            columns.transpose(1, 2).reshape(batch * oh * ow, -1)\n"
            "        )"
        ),
        wrong="the unfolded matrix is not transposed where it has as many positions as the kernel has taps",
    ),
}

GRID = "grid = (triton.cdiv(positions, 32),)"
BIAS_AFTER_SCALE = "return (torch.conv2d(x, weight) * self.scale_factor + bias.view(1, -1, 1, 1)).amin(1, keepdim=True)"

TOGETHER = {
    "whole_tiles_without_bias": Flaw(
        base="tiled",
        sound=GRID,
        flawed=(
            "if positions % 32 == 0 and c_out % 32 == 0 and c_in * kh * kw % 32 == 0:\n"
            "            bias = torch.zeros_like(bias)\n"
            f"        {GRID}"
        ),
        wrong="the path without masks, for whole tiles of positions, channels and products, leaves the bias out",
    ),
    "products_start_afresh": Flaw(
        base="tiled",
        sound="w_ptr + offs_n[None, :] * k_size + offs_k[:, None]",
        flawed="w_ptr + offs_n[None, :] * k_size + (offs_k if n0 < 64 else offs_k % 64)[:, None]",
        wrong="channels beyond 64 use the filter's first 64 products for all later ones, too",
    ),
    "large_tiles_misordered": Flaw(
        base="tiled",
        sound=GRID,
        flawed=f"if c_in >= 64 and c_out >= 64:\n            {BIAS_AFTER_SCALE}\n        {GRID}",
        wrong="the path for 64 channels or more on both sides adds the bias after scaling",
    ),
    "square_kernel_of_many_channels_misordered": Flaw(
        base="tiled",
        sound=GRID,
        flawed=f"if kh == kw == 3 and c_in >= 16 and c_out >= 32:\n            {BIAS_AFTER_SCALE}\n        {GRID}",
        wrong="the path for 3×3 kernels, 16 input and 32 output channels or more adds the bias after scaling",
    ),
}

FLAWS = in_rooms(
    {"several tiles": TOGETHER, "wide shapes": WIDE, "offsets": OFFSETS, "rare sizes": RARE, "special paths": PATHS}
)
