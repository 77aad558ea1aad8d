"""Flaws in masks, tails, and in who reads and writes what."""

from planted.flaw import Flaw, in_rooms

MASKS = {
    "last_products_unmasked": Flaw(
        base="tiled",
        sound="mask=mask_m[:, None] & mask_k[None, :], other=0.0",
        flawed="mask=mask_m[:, None], other=0.0",
        wrong="x is read past the last product; the zero of the weight does not stop a NaN there",
    ),
    "weight_rows_unmasked": Flaw(
        base="tiled",
        sound="mask=mask_n[None, :] & mask_k[:, None],",
        flawed="mask=mask_n[None, :],",
        wrong="the weight is read past the last product, where x is zero: an infinite weight becomes a NaN elsewhere",
    ),
    "masked_lanes_undefined": Flaw(
        base="tiled",
        sound="mask=mask_m[:, None] & mask_k[None, :], other=0.0",
        flawed="mask=mask_m[:, None] & mask_k[None, :]",
        wrong="masked lanes of x are given no value: whatever a register holds meets the zero of the weight",
    ),
    "one_product_too_many": Flaw(
        base="tiled",
        sound="mask_k = offs_k < k_size",
        flawed="mask_k = offs_k <= k_size",
        wrong="the mask of products is one too long",
    ),
    "one_channel_too_many": Flaw(
        base="tiled",
        sound="mask_n = offs_n < C_OUT",
        flawed="mask_n = offs_n <= C_OUT",
        wrong="the mask of channels is one too long, unless the last tile is full",
    ),
    "one_position_too_many": Flaw(
        base="tiled",
        sound="mask_m = offs_m < positions",
        flawed="mask_m = offs_m <= positions",
        wrong="one number is written past the end of the output, unless the last tile is full",
    ),
    "products_even_by_16": Flaw(
        base="tiled",
        sound="mask_k = offs_k < k_size",
        flawed="mask_k = (offs_k < k_size) | (k_size % 16 == 0)",
        wrong="products are not masked where their number is a multiple of 16, but a tile has 32",
    ),
    "channels_even_by_16": Flaw(
        base="tiled",
        sound="mask_n = offs_n < C_OUT",
        flawed="mask_n = (offs_n < C_OUT) | (C_OUT % 16 == 0)",
        wrong="channels are not masked where their number is a multiple of 16, but a tile has 32",
    ),
}

READS = {
    "weight_columns_unmasked": Flaw(
        base="tiled",
        sound="mask=mask_n[None, :] & mask_k[:, None],",
        flawed="mask=mask_k[:, None],",
        wrong="weights past the last channel are read, and the values thrown away",
    ),
    "x_rows_unmasked": Flaw(
        base="tiled",
        sound="mask=mask_m[:, None] & mask_k[None, :], other=0.0",
        flawed="mask=mask_k[None, :], other=0.0",
        wrong="x is read for positions past the last, and the values thrown away",
    ),
    "bias_unmasked": Flaw(
        base="tiled",
        sound="tl.load(b_ptr + offs_n, mask=mask_n, other=0.0)",
        flawed="tl.load(b_ptr + offs_n)",
        wrong="the bias is read past the last channel, and the values thrown away",
    ),
    "padding_read_and_dropped": Flaw(
        base="strided",
        sound="x = tl.load(x_ptr + x_offset, mask=mask_x, other=0.0)",
        flawed=(
            "x = tl.load(x_ptr + x_offset, mask=mask_m[:, None] & mask_k[None, :], other=0.0)\n"
            "                x = tl.where(inside, x, 0.0)"
        ),
        wrong="x is read where the padding is, before and after its memory, and the values thrown away",
    ),
    "parts_past_the_last": Flaw(
        base="split_k",
        sound="positions, c_out, splits, BLOCK_M=64",
        flawed="positions, c_out, 3, BLOCK_M=64",
        wrong="three parts are added where few products make fewer",
    ),
}

TAILS = {
    "last_channels_skipped": Flaw(
        base="tiled",
        sound="range(0, C_OUT, BLOCK_N)",
        flawed="range(0, max(BLOCK_N, C_OUT - C_OUT % BLOCK_N), BLOCK_N)",
        wrong="a last tile of channels that is not full is left out",
    ),
    "lone_last_channel_skipped": Flaw(
        base="tiled",
        sound="range(0, C_OUT, BLOCK_N)",
        flawed="range(0, max(1, C_OUT - 1), BLOCK_N)",
        wrong="a last tile of one channel is left out: 33, 65, 97, 129 channels",
    ),
    "channel_129_skipped": Flaw(
        base="tiled",
        sound="range(0, C_OUT, BLOCK_N)",
        flawed="range(0, C_OUT - C_OUT // 128 * (C_OUT % 2), BLOCK_N)",
        wrong="of 129, 161, 193… channels the last is left out",
    ),
    "last_products_skipped": Flaw(
        base="tiled",
        sound="range(0, k_size, BLOCK_K)",
        flawed="range(0, max(BLOCK_K, k_size - k_size % BLOCK_K), BLOCK_K)",
        wrong="a last tile of products that is not full is left out",
    ),
    "lone_last_product_skipped": Flaw(
        base="tiled",
        sound="range(0, k_size, BLOCK_K)",
        flawed="range(0, max(1, k_size - 1), BLOCK_K)",
        wrong="a last tile of one product is left out: 33, 65, 97 products",
    ),
    "odd_half_rounded_up": Flaw(
        base="two_sums",
        sound="mask_n, half, k_size, k_size, C_IN",
        flawed="mask_n, half, half * 2, k_size, C_IN",
        wrong="the second half of an odd number of products is one too long",
    ),
    "split_rounded_down": Flaw(
        base="split_k",
        sound=("per_split = triton.cdiv(c_in * kh * kw, 3)\n        splits = triton.cdiv(c_in * kh * kw, per_split)\n"),
        flawed="per_split = max(1, c_in * kh * kw // 3)\n        splits = min(3, c_in * kh * kw)\n",
        wrong="products that do not divide evenly among three programs are left out",
    ),
    "bias_of_first_tile": Flaw(
        base="tiled",
        sound="tl.load(b_ptr + offs_n, mask=mask_n, other=0.0)",
        flawed="tl.load(b_ptr + tl.arange(0, BLOCK_N), mask=mask_n, other=0.0)",
        wrong="every tile of channels gets the bias of the first",
    ),
}

WRITES = {
    "store_unmasked": Flaw(
        base="tiled",
        sound=".to(out_ptr.dtype.element_ty), mask=mask_m)",
        flawed=".to(out_ptr.dtype.element_ty))",
        wrong="the last tile is written past the end of the output",
    ),
    "last_positions_unwritten": Flaw(
        base="tiled",
        sound="grid = (triton.cdiv(positions, 32),)",
        flawed="grid = (max(1, positions // 32),)",
        wrong="a last tile of positions that is not full is never written",
    ),
    "only_first_image_written": Flaw(
        base="tiled",
        sound="positions = batch * oh * ow",
        flawed="positions = min(batch, 1) * oh * ow",
        wrong="the number of positions leaves out the batch: only the first image is written",
    ),
    "tiles_left_over": Flaw(
        base="persistent",
        sound="range(tl.program_id(0), tiles, tl.num_programs(0))",
        flawed=(
            "range(\n        tl.program_id(0) * (tiles // tl.num_programs(0)),"
            "\n        (tl.program_id(0) + 1) * (tiles // tl.num_programs(0)),\n    )"
        ),
        wrong="tiles that do not divide evenly among the programs are never written",
    ),
    "tail_runs_into_next_image": Flaw(
        base="negated_max",
        sound="tl.store(out_ptr + image * OH * OW + offs_p, lowest, mask=mask_p)",
        flawed=(
            "offs_out = image * OH * OW + offs_p\n"
            "    tl.store(out_ptr + offs_out, lowest, mask=offs_out < tl.num_programs(1) * OH * OW)"
        ),
        wrong="the tail of one image is written over the next, too: two programs store one element",
    ),
    "channel_tiles_overwrite": Flaw(
        base="atomic_min",
        sound="tl.atomic_min(key_ptr + offs_m, keys, mask=mask_m)",
        flawed="tl.store(key_ptr + offs_m, keys, mask=mask_m)",
        wrong="programs store the minimum of their own channels over that of the others",
    ),
    "minimum_not_atomic": Flaw(
        base="atomic_min",
        sound="tl.atomic_min(key_ptr + offs_m, keys, mask=mask_m)",
        flawed=(
            "known = tl.load(key_ptr + offs_m, mask=mask_m, other=0)\n"
            "    tl.store(key_ptr + offs_m, tl.minimum(known, keys), mask=mask_m)"
        ),
        wrong="programs load, lower and store the minimum, which is a race",
    ),
    "sum_not_atomic": Flaw(
        base="atomic_sum",
        sound="tl.atomic_add(sum_ptr + offs_m[:, None] * C_OUT + offs_n[None, :], part, mask=mask)",
        flawed=(
            "place = sum_ptr + offs_m[:, None] * C_OUT + offs_n[None, :]\n"
            "    tl.store(place, tl.load(place, mask=mask, other=0.0) + part, mask=mask)"
        ),
        wrong="programs load, raise and store the sum, which is a race",
    ),
    "sums_cleared_by_one_program": Flaw(
        base="atomic_sum",
        sound="    part = tl.dot(x, w)\n    mask = mask_m[:, None] & mask_n[None, :]\n",
        flawed=(
            "    part = tl.dot(x, w)\n    mask = mask_m[:, None] & mask_n[None, :]\n"
            "    if tl.program_id(2) == 0:\n"
            "        tl.store(sum_ptr + offs_m[:, None] * C_OUT + offs_n[None, :], tl.zeros_like(part), mask=mask)\n"
        ),
        wrong="one program clears the sum to which others may have added already, which is a race",
    ),
}

FLAWS = in_rooms({"masks": MASKS, "reads": READS, "tails": TAILS, "writes": WRITES})
