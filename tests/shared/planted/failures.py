"""Flaws that raise, hang, crash, or return something of another kind."""

from planted.flaw import Flaw, in_rooms

CONTIGUOUS_X = "x = x.contiguous()"

RAISES = {
    "empty_batch_refused": Flaw(
        base="tiled",
        sound="if positions == 0:\n            return out",
        flawed='assert positions, "x is empty"',
        wrong="an empty batch raises",
    ),
    "few_products_refused": Flaw(
        base="tiled",
        sound="BLOCK_M=32, BLOCK_N=32, BLOCK_K=32,",
        flawed="BLOCK_M=32, BLOCK_N=32, BLOCK_K=min(32, triton.next_power_of_2(c_in * kh * kw)),",
        wrong="a tile has as few products as there are, and tl.dot raises below 16",
    ),
    "odd_tile_refused": Flaw(
        base="strided",
        sound="BLOCK_M=32, BLOCK_N=32, BLOCK_K=16,",
        flawed="BLOCK_M=32, BLOCK_N=max(32, c_out // groups), BLOCK_K=16,",
        wrong="a tile has as many channels as there are, and tl.arange raises unless that is a power of two",
    ),
    "sizes_of_one_squeezed": Flaw(
        base="block_pointers",
        sound="columns = nn.functional.unfold(x, (kh, kw)).contiguous()",
        flawed=(
            "windows = x.unfold(2, kh, 1).unfold(3, kw, 1).squeeze()\n"
            "        columns = windows.permute(0, 1, 4, 5, 2, 3).reshape(batch, -1, oh * ow)"
        ),
        wrong="dimensions of size 1 are squeezed away before they are permuted, which raises",
    ),
    "gaps_refused": Flaw(
        base="tiled",
        sound=CONTIGUOUS_X,
        flawed="x = x.view(-1).view(x.shape)",
        wrong="an x that is not contiguous raises",
    ),
    "seven_columns_refused": Flaw(
        base="two_kernels",
        sound="    if batch == 0:\n        return out\n",
        flawed="    if batch == 0:\n        return out\n    assert kw <= 5, kw\n",
        wrong="kernels of more than five columns raise",
    ),
    "missing_bias_refused": Flaw(
        base="strided",
        sound="0 if bias is None else bias.stride(0),",
        flawed="bias.stride(0),",
        wrong="a bias of None raises, though the signature has it",
    ),
}

FORM = {
    "indices_returned": Flaw(
        base="eager",
        sound="torch.min(value, dim=1, keepdim=True).values",
        flawed="torch.min(value, dim=1, keepdim=True)",
        wrong="values and indices are returned",
    ),
    "dimension_lost": Flaw(
        base="eager_function",
        sound="value.amin(dim=1, keepdim=True)",
        flawed="value.amin(dim=1)",
        wrong="the channel dimension is lost",
    ),
    "single_channel_squeezed": Flaw(
        base="eager",
        sound="torch.min(value, dim=1, keepdim=True).values",
        flawed="torch.min(value.squeeze(1), dim=1, keepdim=True).values",
        wrong="of one channel the dimension is squeezed away, and the minimum is that of rows",
    ),
    "sides_of_output_swapped": Flaw(
        base="tiled",
        sound="out = torch.empty((batch, 1, oh, ow), device=x.device, dtype=x.dtype)",
        flawed="out = torch.empty((batch, 1, ow, oh), device=x.device, dtype=x.dtype)",
        wrong="height and width of the output are exchanged",
    ),
    "half_returned_in_float32": Flaw(
        base="two_kernels",
        sound="out = torch.empty((batch, 1, oh, ow), device=x.device, dtype=x.dtype)",
        flawed="out = torch.empty((batch, 1, oh, ow), device=x.device, dtype=torch.float32)",
        wrong="half-precision operands give a result in float32",
        dtypes=("float16",),
    ),
    "empty_half_in_float32": Flaw(
        base="two_kernels",
        sound="    if batch == 0:\n        return out\n",
        flawed="    if batch == 0:\n        return out.float()\n",
        wrong="an empty batch in half precision gives a result in float32",
        dtypes=("float16", "bfloat16"),
    ),
}

PROCESS = {
    "loops": Flaw(
        base="tiled",
        sound=CONTIGUOUS_X,
        flawed=f"{CONTIGUOUS_X}\n        while self.scale_factor < 0:\n            pass",
        wrong="a negative scale hangs",
    ),
    "loops_on_odd_channels": Flaw(
        base="tiled",
        sound=CONTIGUOUS_X,
        flawed=(
            f"{CONTIGUOUS_X}\n"
            "        tile, channels = 32, self.conv.out_channels\n"
            "        while channels > 64 and channels % tile:\n"
            "            tile = max(tile // 2, 2)"
        ),
        wrong="the search for a tile that divides the channels hangs for odd numbers above 64",
    ),
    "crashes": Flaw(
        base="tiled",
        sound=CONTIGUOUS_X,
        flawed=f"import ctypes; x.shape[1] < 3 or ctypes.string_at(0); {CONTIGUOUS_X}",
        wrong="three input channels or more crash",
    ),
    "exits_on_nan": Flaw(
        base="packed",
        sound=CONTIGUOUS_X,
        flawed=f'x.isnan().any() and __import__("os")._exit(1)\n        {CONTIGUOUS_X}',
        wrong="a NaN in x ends the process",
    ),
}

FLAWS = in_rooms({"raises": RAISES, "form of the result": FORM, "hangs and crashes": PROCESS})
