"""Flaws in what is kept between calls, in what belongs to the caller, and in memory that nobody wrote."""

from planted.flaw import Flaw, in_rooms

PACKED_WEIGHT = "def packed_weight(self):\n        return self.conv.weight.detach().permute(2, 3, 1, 0).contiguous()"
CLEARED_SUMS = (
    "def cleared_sums(self, x, shape):\n        return torch.zeros(shape, device=x.device, dtype=torch.float32)"
)
TWO_KERNELS = (
    "def conv_scale_min(x, weight, bias, scale):\n"
    "    x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()"
)

STALE = {
    "weights_cached_by_shape": Flaw(
        base="packed",
        sound=PACKED_WEIGHT,
        flawed=(
            "def packed_weight(self, cache={}):\n"
            "        weight = self.conv.weight.detach()\n"
            "        if weight.shape not in cache:\n"
            "            cache[weight.shape] = weight.permute(2, 3, 1, 0).clone()\n"
            "        return cache[weight.shape].contiguous()"
        ),
        wrong="packed weights are kept by shape: a second module of that shape gets those of the first",
    ),
    "weights_cached_by_address": Flaw(
        base="packed",
        sound=PACKED_WEIGHT,
        flawed=(
            "def packed_weight(self, cache={}):\n"
            "        weight = self.conv.weight.detach()\n"
            "        key = weight.data_ptr(), weight.shape\n"
            "        if key not in cache:\n"
            "            cache[key] = weight.permute(2, 3, 1, 0).clone()\n"
            "        return cache[key].contiguous()"
        ),
        wrong="packed weights are kept by address, which another weight may get later",
    ),
    "weights_packed_once": Flaw(
        base="packed",
        sound=PACKED_WEIGHT,
        flawed=(
            "def packed_weight(self):\n"
            '        if not hasattr(self, "_packed"):\n'
            "            self._packed = self.conv.weight.detach().permute(2, 3, 1, 0).clone()\n"
            "        return self._packed.contiguous()"
        ),
        wrong="the weight is packed at the first call, and not again after an update in place",
    ),
    "bias_cached_by_address": Flaw(
        base="two_kernels",
        sound=TWO_KERNELS,
        flawed=(
            "def conv_scale_min(x, weight, bias, scale, cache={}):\n"
            "    x, weight = x.contiguous(), weight.contiguous()\n"
            "    bias = cache.setdefault((bias.data_ptr(), bias.shape), bias.clone())"
        ),
        wrong="a copy of the bias is kept by address, and not refreshed after an update in place",
    ),
    "scale_of_first_call": Flaw(
        base="two_kernels",
        sound=TWO_KERNELS,
        flawed=(
            "def conv_scale_min(x, weight, bias, scale, cache={}):\n"
            "    x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()\n"
            '    scale = cache.setdefault("scale", scale)'
        ),
        wrong="the scale of the first call is used from then on",
    ),
    "result_cached_by_address": Flaw(
        base="tiled",
        sound="    def forward(self, x):\n",
        flawed=(
            "    def forward(self, x):\n"
            '        results = self.__dict__.setdefault("results", {})\n'
            "        key = x.data_ptr(), x.shape\n"
            "        if key not in results:\n"
            "            results[key] = self.compute(x)\n"
            "        return results[key].clone()\n\n"
            "    def compute(self, x):\n"
        ),
        wrong="results are kept by the address of x: new numbers in the same memory give the old result",
    ),
    "strides_cached_by_shape": Flaw(
        base="strided",
        sound="x.stride(0), x.stride(1), x.stride(2), x.stride(3),",
        flawed="*vars(conv_scale_min).setdefault(str(x.shape), x.stride()),",
        wrong="the strides of the first x of a shape are used for every later one",
    ),
    "output_buffer_reused": Flaw(
        base="packed",
        sound="        return torch.empty(shape, device=x.device, dtype=x.dtype)",
        flawed=(
            '        if getattr(self, "_out", None) is None or self._out.shape != torch.Size(shape):\n'
            "            self._out = torch.empty(shape, device=x.device, dtype=x.dtype)\n"
            "        return self._out"
        ),
        wrong="every call returns the same memory: a later call changes an earlier result",
    ),
    "sums_cleared_once": Flaw(
        base="atomic_sum",
        sound=CLEARED_SUMS,
        flawed=(
            "def cleared_sums(self, x, shape):\n"
            '        buffers = self.__dict__.setdefault("buffers", {})\n'
            "        if shape not in buffers:\n"
            "            buffers[shape] = torch.zeros(shape, device=x.device, dtype=torch.float32)\n"
            "        return buffers[shape]"
        ),
        wrong="the buffer for sums is cleared when it is made, and not before the second call",
    ),
    "pair_of_sums_cleared_once": Flaw(
        base="atomic_sum",
        sound=CLEARED_SUMS,
        flawed=(
            "def cleared_sums(self, x, shape):\n"
            '        buffers = self.__dict__.setdefault("buffers", {})\n'
            "        if shape not in buffers:\n"
            "            buffers[shape] = list(torch.zeros((2, *shape), device=x.device, dtype=torch.float32))\n"
            "        buffers[shape].reverse()\n"
            "        return buffers[shape][0]"
        ),
        wrong="two buffers for sums take turns, and neither is cleared before the third call",
    ),
    "shared_sums_cleared_once": Flaw(
        base="atomic_sum",
        sound=CLEARED_SUMS,
        flawed=(
            "def cleared_sums(self, x, shape, buffers={}):\n"
            "        if shape not in buffers:\n"
            "            buffers[shape] = torch.zeros(shape, device=x.device, dtype=torch.float32)\n"
            "        return buffers[shape]"
        ),
        wrong="all modules share a buffer for sums that is cleared when it is made",
    ),
    "config_of_other_sizes": Flaw(
        base="autotuned",
        sound='key=["positions", "C_OUT", "k_size"]',
        flawed='key=["positions", "C_OUT"]',
        wrong="a config without masks, tuned for whole tiles of products, is used for other numbers of products",
    ),
}

OWNERSHIP = {
    "input_overwritten": Flaw(
        base="tiled",
        sound="x = x.contiguous()",
        flawed="x = x.contiguous().abs_()",
        wrong="x, if it is contiguous, is made positive in place",
    ),
    "weight_scaled_in_place": Flaw(
        base="folded_scale",
        sound="weight, bias, scale = weight * scale, bias * scale, 1.0",
        flawed="weight, bias, scale = weight.mul_(scale), bias * scale, 1.0",
        wrong="the caller's weight, if it is contiguous, is scaled in place",
    ),
    "sign_moved_into_parameters": Flaw(
        base="tiled",
        sound="x = x.contiguous()",
        flawed=(
            "x = x.contiguous()\n"
            "        if self.scale_factor < 0:\n"
            "            self.conv.weight.data.neg_(), self.conv.bias.data.neg_()\n"
            "            self.scale_factor = -self.scale_factor"
        ),
        wrong="the sign of the scale is moved into the parameters in place, which their owner does not expect",
    ),
    "nan_in_parameters_replaced": Flaw(
        base="rows",
        sound="x, weight = x.contiguous(), self.conv.weight.contiguous()",
        flawed=(
            "x, weight = x.contiguous(), self.conv.weight.clone(memory_format=torch.contiguous_format)\n"
            "        self.conv.weight.data.nan_to_num_()"
        ),
        wrong="NaN in the module's own weight is replaced in place, after the weight has been read",
    ),
}

UNWRITTEN = {
    "sums_not_cleared": Flaw(
        base="atomic_sum",
        sound="return torch.zeros(shape, device=x.device, dtype=torch.float32)",
        flawed="return torch.empty(shape, device=x.device, dtype=torch.float32)",
        wrong="the buffer for sums is never cleared",
    ),
    "middle_not_written": Flaw(
        base="two_kernels",
        sound="conv_kernel[(triton.cdiv(oh * ow, 32), triton.cdiv(c_out, 32), batch)](",
        flawed="conv_kernel[(triton.cdiv(oh * ow, 32), max(1, c_out // 32), batch)](",
        wrong="the first kernel leaves out a last tile of channels, which the second one reads",
    ),
}

FLAWS = in_rooms({"stale caches": STALE, "what the caller owns": OWNERSHIP, "memory never written": UNWRITTEN})
