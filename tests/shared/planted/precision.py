"""Flaws in the precision of products and sums, and in rounding."""

from planted.flaw import Flaw, in_rooms

STORE = "tl.store(out_ptr + image * PIXELS + offs_p, best.to(out_ptr.dtype.element_ty), mask=mask_p)"


def stored(number: str) -> str:
    """Return the last line of `two_kernels` with another number in it."""
    return f"tl.store(out_ptr + image * PIXELS + offs_p, ({number}).to(out_ptr.dtype.element_ty), mask=mask_p)"


PRODUCTS = {
    "half_precision_products": Flaw(
        base="tiled",
        sound="tl.dot(x, w, acc)",
        flawed="tl.dot(x.to(tl.float16), w.to(tl.float16), acc)",
        wrong="float32 operands are rounded to float16",
    ),
    "tf32_products": Flaw(
        base="tiled",
        sound="tl.dot(x, w, acc)",
        flawed="tl.dot((x.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True), w, acc)",
        wrong="x is cut to the bits of tf32, where PyTorch computes in float32",
    ),
    "bfloat16_weights": Flaw(
        base="packed",
        sound="return self.conv.weight.detach().permute(2, 3, 1, 0).contiguous()",
        flawed="return self.conv.weight.detach().permute(2, 3, 1, 0).contiguous().bfloat16().float()",
        wrong="the weight is packed in bfloat16",
    ),
    "two_bfloat16_pieces": Flaw(
        base="tiled",
        sound="acc = tl.dot(x, w, acc)",
        flawed=(
            "x_high, w_high = x.to(tl.bfloat16), w.to(tl.bfloat16)\n"
            "            x_low = (x - x_high.to(tl.float32)).to(tl.bfloat16)\n"
            "            w_low = (w - w_high.to(tl.float32)).to(tl.bfloat16)\n"
            "            acc = tl.dot(x_high, w_low, tl.dot(x_low, w_high, tl.dot(x_high, w_high, acc)))"
        ),
        wrong="operands are split into two pieces of bfloat16, which keep 16 of 24 bits",
    ),
    "float64_products_in_float32": Flaw(
        base="strided",
        sound='acc = tl.dot(x, w, acc, input_precision="ieee", out_dtype=acc_type)',
        flawed=(
            'acc += tl.dot(x.to(tl.float32), w.to(tl.float32), input_precision="ieee", out_dtype=tl.float32).to('
            "acc_type)"
        ),
        wrong="float64 operands are multiplied in float32",
        dtypes=("float64",),
    ),
    "products_rounded_to_half": Flaw(
        base="upcast",
        sound="acc += tl.sum(x[:, :, None] * w[None, :, :], axis=1)",
        flawed=(
            "products = (x[:, :, None] * w[None, :, :]).to(x_ptr.dtype.element_ty)\n"
            "            acc += tl.sum(products.to(tl.float32), axis=1)"
        ),
        wrong="each product is rounded to the dtype of the operands",
        dtypes=("float16", "bfloat16"),
    ),
}

ACCUMULATOR = {
    "half_accumulator": Flaw(
        base="strided",
        sound='acc = tl.dot(x, w, acc, input_precision="ieee", out_dtype=acc_type)',
        flawed='acc = tl.dot(x, w, acc, input_precision="ieee", out_dtype=acc_type).to(tl.float16).to(acc_type)',
        wrong="the sum is kept in float16 from tile to tile of products",
        dtypes=("float16",),
    ),
    "bfloat16_between_tiles": Flaw(
        base="two_kernels",
        sound="acc = tl.dot(x, w, acc)",
        flawed="acc = tl.dot(x, w, acc).to(tl.bfloat16).to(tl.float32)",
        wrong="the sum is kept in bfloat16 from tile to tile of products",
        dtypes=("bfloat16",),
    ),
    "half_parts": Flaw(
        base="split_k",
        sound="parts = torch.empty((splits, positions, c_out), device=x.device, dtype=torch.float32)",
        flawed="parts = torch.empty((splits, positions, c_out), device=x.device, dtype=torch.bfloat16)",
        wrong="the parts of the sum are kept in bfloat16",
    ),
    "middle_in_half": Flaw(
        base="two_kernels",
        sound="middle = torch.empty((batch, c_out, oh, ow), device=x.device, dtype=torch.float32)",
        flawed="middle = torch.empty((batch, c_out, oh, ow), device=x.device, dtype=torch.float16)",
        wrong="the convolution of bfloat16 operands is kept in float16, which ends at 65504",
        dtypes=("bfloat16",),
    ),
    "sum_of_many_in_bfloat16": Flaw(
        base="tiled",
        sound="acc = tl.dot(x, w, acc)",
        flawed=(
            "acc = tl.dot(x, w, acc)\n"
            "            if k0 >= 256:\n"
            "                acc = acc.to(tl.bfloat16).to(tl.float32)"
        ),
        wrong="from the ninth tile of products on, the sum is kept in bfloat16",
    ),
}

ROUNDING = {
    "cut_to_bfloat16": Flaw(
        base="two_kernels",
        sound=STORE,
        flawed=stored("(best.to(tl.int32, bitcast=True) & -65536).to(tl.float32, bitcast=True)"),
        wrong="results are cut to bfloat16 instead of rounded",
        dtypes=("bfloat16",),
    ),
    "ties_away_from_zero": Flaw(
        base="two_kernels",
        sound=STORE,
        flawed=stored("((best.to(tl.int32, bitcast=True) + 0x8000) & -65536).to(tl.float32, bitcast=True)"),
        wrong="a result halfway between two bfloat16 numbers goes away from zero, not to the even one",
        dtypes=("bfloat16",),
    ),
    "cut_to_float16": Flaw(
        base="two_kernels",
        sound=STORE,
        flawed=stored('best.to(tl.float16, fp_downcast_rounding="rtz")'),
        wrong="results are cut to float16 instead of rounded",
        dtypes=("float16",),
    ),
    "float16_on_the_way_to_bfloat16": Flaw(
        base="two_kernels",
        sound=STORE,
        flawed=stored("best.to(tl.float16)"),
        wrong="results pass through float16 on the way to bfloat16",
        dtypes=("bfloat16",),
    ),
    "float16_saturated": Flaw(
        base="two_kernels",
        sound=STORE,
        flawed=stored(
            'tl.where((tl.abs(best) > 65504.0) & (tl.abs(best) < float("inf")),'
            " tl.where(best > 0.0, 65504.0, -65504.0), best)"
        ),
        wrong="finite results beyond float16 become its largest number instead of infinity",
        dtypes=("float16",),
    ),
    "float64_through_float32": Flaw(
        base="strided",
        sound="best.to(out_ptr.dtype.element_ty)",
        flawed="best.to(tl.float32).to(out_ptr.dtype.element_ty)",
        wrong="results in float64 are rounded to float32 first",
        dtypes=("float64",),
    ),
    "rounded_at_random": Flaw(
        base="two_kernels",
        sound=STORE,
        flawed=stored(
            "((best.to(tl.int32, bitcast=True) + (tl.rand(7, offs_p) * 65536).to(tl.int32)) & -65536)"
            ".to(tl.float32, bitcast=True)"
        ),
        wrong="results are rounded to bfloat16 up or down at random",
        dtypes=("bfloat16",),
    ),
}

SUBNORMAL = {
    "subnormal_results_flushed": Flaw(
        base="packed",
        sound="tl.store(out_ptr + offs_m, best, mask=mask_m)",
        flawed=(
            "best = tl.where(tl.abs(best) < 1.1754943508222875e-38, 0.0, best)\n"
            "    tl.store(out_ptr + offs_m, best, mask=mask_m)"
        ),
        wrong="subnormal results become 0",
    ),
    "subnormal_inputs_flushed": Flaw(
        base="rows",
        sound="x = tl.load(x_ptr + x_offset, mask=mask_w[:, None] & mask_c[None, :], other=0.0)",
        flawed=(
            "x = tl.load(x_ptr + x_offset, mask=mask_w[:, None] & mask_c[None, :], other=0.0)\n"
            "                    x = tl.where(tl.abs(x) < 1.1754943508222875e-38, 0.0, x)"
        ),
        wrong="subnormal numbers in x count as 0",
    ),
    "subnormal_weights_flushed": Flaw(
        base="rows",
        sound="w = tl.load(w_ptr + w_offset, mask=mask_c[:, None] & mask_n[None, :], other=0.0)",
        flawed=(
            "w = tl.load(w_ptr + w_offset, mask=mask_c[:, None] & mask_n[None, :], other=0.0)\n"
            "                    w = tl.where(tl.abs(w) < 1.1754943508222875e-38, 0.0, w)"
        ),
        wrong="subnormal numbers in the weight count as 0",
    ),
    "subnormal_halves_flushed": Flaw(
        base="strided",
        sound="best.to(out_ptr.dtype.element_ty)",
        flawed="tl.where(tl.abs(best) < 6.103515625e-05, 0.0, best).to(out_ptr.dtype.element_ty)",
        wrong="results that are subnormal in float16 become 0",
        dtypes=("float16",),
    ),
}

FLAWS = in_rooms(
    {
        "precision of products": PRODUCTS,
        "accumulator": ACCUMULATOR,
        "rounding of results": ROUNDING,
        "subnormal numbers": SUBNORMAL,
    }
)
