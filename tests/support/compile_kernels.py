"""Compile the Triton kernels for an H100 as a launch would, without a GPU; print what came out as JSON.

Usage: python compile_kernels.py triton_kernels.py '{"WIDTH": 512, ...}'. Loads neither torch nor the package, and runs
without TRITON_INTERPRET.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

INTEGERS = ("batch", "length", "rows")
# What is None or, as Triton compiles it into a kernel, 1.
VARIANTS = {
    "scan with gradient": ("scan_forward", {"state": None}),
    "scan without gradient": ("scan_forward", {"state": None, "kept": None}),
    "everything": ("scan_forward", {}),
    "step": ("scan_forward", {"kept": None, "length": 1}),
    "step in double precision": ("scan_forward", {"kept": None, "length": 1, "dtype": "*fp64"}),
    "backward of windows": ("scan_backward", {"state": None, "grad_last": None}),
    "backward of sequences": ("scan_backward", {"state": None, "grad_last": None, "rows": 1}),
    "backward of everything": ("scan_backward", {}),
    "backward of a step": ("scan_backward", {"D": None, "length": 1, "batch": 1, "rows": 1}),
    "backward in double precision": ("scan_backward", {"dtype": "*fp64"}),
}


def compile_variant(kernel, sizes, fixed):
    """Size of the binary, registers of a thread, and bytes of its stack, where what they do not hold is spilled."""
    import triton  # here, as pytest imports this file in search of doctests
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    dtype = fixed.pop("dtype", "*fp32")
    constants = {**sizes, **fixed}
    types = {name: "i32" if name in INTEGERS else dtype for name in kernel.arg_names}
    signature = {name: "constexpr" if name in constants else type_ for name, type_ in types.items()}
    aligned = {(i,): [["tt.divisibility", 16]] for i, type_ in enumerate(signature.values()) if type_ == dtype}
    source = ASTSource(kernel, signature, constants, aligned)
    compiled = triton.compile(source, GPUTarget("cuda", 90, 32), {"num_warps": 1})
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder, "kernel.cubin")
        binary.write_bytes(compiled.asm["cubin"])
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(binary)]
        report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", report).groups()
    return {"cubin": len(compiled.asm["cubin"]), "registers": int(registers), "stack": int(stack)}


def main(file, sizes):
    spec = importlib.util.spec_from_file_location("triton_kernels", file)
    kernels = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kernels)
    found = {
        name: compile_variant(getattr(kernels, kernel), json.loads(sizes), dict(fixed))
        for name, (kernel, fixed) in VARIANTS.items()
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
