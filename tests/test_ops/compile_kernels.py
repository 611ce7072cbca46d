"""Compiles the Triton kernels for GPUs that need not be there: registers, spills, widths of accesses, instructions.

    PYTHONPATH=. python tests/test_ops/compile_kernels.py [--sizes 3 5 7] [--gpus sm_90 gfx942] [--dtypes bf16] \
        [--json] [--kernels convolve_kernel gradients_kernel]

The interpreter does not see what only the compiler refuses, and neither sees what is slow; this is what can be known of
the speed without a GPU.
"""

import argparse
import itertools
import json
import re
import subprocess
import tempfile
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mmatconv.ops.context_to_kernel.generator_kernels import generate_gradients_kernel, generate_kernel
from mmatconv.ops.context_to_kernel.triton_kernels import pool_kernel, spread_kernel
from mmatconv.ops.context_to_kernel.triton_launch import GENERATE_TILE, POOL_ELEMENTS, SPREAD_ELEMENTS
from mmatconv.ops.dynamic_conv.triton_kernels import convolve_kernel, gradients_kernel
from mmatconv.ops.dynamic_conv.triton_launch import CONVOLVE_LANE, GRADIENTS_LANE, LOAD, REGISTERS, lanes
from mmatconv.ops.glu.triton_conv_kernels import (
    conv_gate_gradients_kernel,
    conv_gate_kernel,
    conv_input_gradient_kernel,
    scale_kernel,
)
from mmatconv.ops.glu.triton_conv_launch import ELEMENTS as CONV_ELEMENTS
from mmatconv.ops.glu.triton_conv_launch import GRADIENTS_ELEMENTS
from mmatconv.ops.glu.triton_conv_launch import block as conv_block
from mmatconv.ops.glu.triton_kernels import gate_gradients_kernel, gate_kernel
from mmatconv.ops.glu.triton_launch import ELEMENTS, block
from mmatconv.ops.residual_norm.triton_kernels import residual_norm_gradients_kernel, residual_norm_kernel
from mmatconv.ops.residual_norm.triton_launch import ELEMENTS as RESIDUAL_ELEMENTS
from mmatconv.ops.triton_tiling import THREADS, power_of_two, tile

TARGETS = {
    'sm_80': GPUTarget('cuda', 80, 32),
    'sm_90': GPUTarget('cuda', 90, 32),
    'gfx90a': GPUTarget('hip', 'gfx90a', 64),
    'gfx942': GPUTarget('hip', 'gfx942', 64),
}
BYTES = {'fp16': 2, 'bf16': 2, 'fp32': 4, 'fp64': 8}
MAPS = ('x', 'y', 'g', 'kernel', 'grad', 'context', 'weight', 'bias', 'difference', 'z', 'p')
MAPS += ('grad_map', 'branch', 'normalised', 'grad_branch', 'grad_normalised')
SUMS = ('partial', 'pooled', 'scale', 'grad_scale', 'squares')
# Under autocast the residual stream and all parameters are in float32.
SUMS += ('before', 'after', 'grad_before', 'grad_after', 'gamma', 'factor', 'gain', 'shift', 'stats')
SUMS += ('row_scale', 'grad_row_scale', 'offset')
TILES = ('BLOCK_W', 'BLOCK_C', 'COLS', 'VEC', 'BLOCK_R', 'BLOCK_D', 'PADDED')
# Of residual streams: those of a stage of T2, and the most a program holds.
CHANNELS = (288, 2048)


def compile_kernel(kernel, target, dtype, constants):
    names = kernel.arg_names
    signature = {name: 'i32' for name in names}
    signature |= {name: f'*{dtype}' for name in names if name in MAPS}
    signature |= {name: '*fp64' if dtype == 'fp64' else '*fp32' for name in names if name in SUMS}
    signature |= {name: '*i32' for name in names if name == 'sizes'}
    options = {'num_warps': constants.pop('num_warps', THREADS // target.warp_size)}
    registers = constants.pop('maxnreg', None)
    if registers and target.backend == 'cuda':
        options['maxnreg'] = registers
    signature |= dict.fromkeys(constants, 'constexpr')
    aligned = {(i,): [['tt.divisibility', 16]] for i, name in enumerate(names) if signature[name].startswith('*')}
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in constants.items()}, aligned)
    return triton.compile(source, target=target, options=options)


def figures(compiled):
    """Registers of a thread, bytes it spills, bits of its widest load and store, instructions of its largest loop."""
    if 'cubin' in compiled.asm:
        usage = cuobjdump(compiled, '-res-usage')
        registers, spilled = map(int, re.search(r'REG:(\d+) STACK:(\d+)', usage).groups())
        accesses = (
            re.findall(rf'{name}\.global(?:\.\w+)*?(?:\.v(\d))?\.b(\d+)', compiled.asm['ptx']) for name in ('ld', 'st')
        )
        widest = (max(int(count or 1) * int(bits) for count, bits in found) for found in accesses)
        return registers, spilled, *widest, largest_loop(cuobjdump(compiled, '-sass'))
    assembly = compiled.asm['amdgcn']
    registers = int(re.search(r'\.vgpr_count:\s*(\d+)', assembly)[1])
    spilled = int(re.search(r'\.private_segment_fixed_size:\s*(\d+)', assembly)[1])
    widths = {'ushort': 16, 'short': 16, 'short_d16': 16, 'short_d16_hi': 16}
    widths |= {'dword': 32, 'dwordx2': 64, 'dwordx3': 96, 'dwordx4': 128}
    accesses = (re.findall(rf'(?:global|buffer)_{name}_(\w+)', assembly) for name in ('load', 'store'))
    return registers, spilled, *(max(widths.get(access, 0) for access in found) for found in accesses), None


def cuobjdump(compiled, option):
    """What NVIDIA's tool, which comes with Triton, says of a compiled kernel."""
    tool = Path(triton.__file__).parent / 'backends/nvidia/bin/cuobjdump'
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(compiled.asm['cubin'])
        file.flush()
        return subprocess.run([tool, option, file.name], capture_output=True, text=True, check=True).stdout


def largest_loop(sass):
    """Instructions from the target of a branch back to the branch, the most of all loops; None without loops."""
    found = re.findall(r'/\*([0-9a-f]{4,5})\*/\s+([^;]*);', sass)
    addresses = [int(address, 16) for address, _ in found]
    loops = [0]
    for address, (_, instruction) in zip(addresses, found):
        target = re.search(r'BRA\S* .*0x([0-9a-f]+)$', instruction.strip())
        if target and int(target[1], 16) < address:
            loops.append(sum(int(target[1], 16) <= other <= address for other in addresses))
    return max(loops) or None


def elements_of_a_row(constants):
    """Results that a thread of the dynamic depthwise convolution computes in each pass of its loop."""
    return constants['COLS'] * (constants['VEC'] if constants['CHANNELS_LAST'] else 1)


def cases(dtype, size, channels_last, warp_size):
    """Kernels with their constants for a map of 200 columns, 128 channels and 384 hidden ones."""
    for kernel, table, own in (
        (convolve_kernel, CONVOLVE_LANE, {'FLIP': False}),
        (gradients_kernel, GRADIENTS_LANE, {'WITH_INPUT': True}),
    ):
        columns, vector, contiguous_columns = table[size]
        columns, vector = (columns, vector) if channels_last else (contiguous_columns, contiguous_columns)
        vector = min(vector, LOAD // BYTES[dtype])
        width, depth = lanes(-(-200 // columns), 128 // vector if channels_last else 128, channels_last)
        shape = dict(BLOCK_W=width, BLOCK_C=depth, COLS=columns, VEC=vector, CHANNELS_LAST=channels_last)
        if kernel is convolve_kernel and channels_last and size <= 3 and BYTES[dtype] == 2:
            shape['maxnreg'] = REGISTERS
        for with_sizes in (False, True):
            yield kernel, dict(shape, K=size, WITH_SIZES=with_sizes, **own)
    vector = 16 // BYTES[dtype]
    grid, runs = (
        dict(ROW_BINS=rows, COLUMN_BINS=columns, RUNS=rows < columns) for rows, columns in ((size, size), (1, size**2))
    )
    for elements, binned in ((POOL_ELEMENTS, pool_kernel), (SPREAD_ELEMENTS, spread_kernel)):
        shape = tiles(elements, vector, channels_last)
        yield binned, dict(shape, **grid, WITH_SIZES=False)
        yield binned, dict(shape, **grid, WITH_SIZES=True)
        yield binned, dict(shape, **runs, WITH_SIZES=True)
    if not channels_last:
        return
    # The others know no memory format.
    rows, columns = block(64000, 384)
    shape = dict(BLOCK_R=rows, BLOCK_D=columns, VEC=min(ELEMENTS, vector))
    yield gate_kernel, shape
    yield gate_gradients_kernel, shape
    for kernel, elements in (
        (conv_gate_kernel, CONV_ELEMENTS),
        (conv_gate_gradients_kernel, GRADIENTS_ELEMENTS),
        (conv_input_gradient_kernel, CONV_ELEMENTS),
    ):
        width, depth = conv_block(200, 384, warp_size * elements)
        yield kernel, dict(BLOCK_W=width, BLOCK_C=depth, VEC=min(vector, elements), num_warps=1)
    yield scale_kernel, dict(EPS=1e-6, BLOCK_N=64, BLOCK_B=16)
    names = 'BRANCH', 'ROW_SCALE', 'OFFSET', 'GAMMA', 'FACTOR', 'NORM', 'GAIN'
    whole = {f'WITH_{name}': True for name in names}
    for channels in CHANNELS:
        padded = power_of_two(channels)
        shape = dict(C=channels, BLOCK_R=max(THREADS * RESIDUAL_ELEMENTS // padded, 1), BLOCK_C=padded, **whole)
        yield residual_norm_kernel, dict(shape, WITH_SHIFT=True, EPS=1e-6)
        yield residual_norm_gradients_kernel, dict(shape, WITH_AFTER=True, SUMS=4)
    padded = max(power_of_two(size * size), 16)
    shape = dict(POSITIONS=size * size, PADDED=padded, BLOCK_R=GENERATE_TILE // padded)
    yield generate_kernel, dict(shape, WITH_BIAS=True, SIGMOID=True)
    yield generate_gradients_kernel, dict(shape, WITH_BIAS=True, SIGMOID=True)


def tiles(elements, vector, channels_last):
    width, depth = tile(200, 128, THREADS * elements, channels_last)
    return dict(BLOCK_W=width, BLOCK_C=depth, VEC=vector if channels_last else 1, CHANNELS_LAST=channels_last)


def variants(gpus, dtypes, sizes, kernels):
    for name, dtype, size, channels_last in itertools.product(gpus, dtypes, sizes, (False, True)):
        for kernel, constants in cases(dtype, size, channels_last, TARGETS[name].warp_size):
            if kernels and kernel.__name__ not in kernels:
                continue
            wide = tl.float64 if dtype == 'fp64' else tl.float32
            own = {name: wide for name in ('ACC', 'STREAM') if name in kernel.arg_names}
            compiled = compile_kernel(kernel, TARGETS[name], dtype, {**constants, **own})
            registers, spilled, load, store, loop = figures(compiled)
            per_element = loop / elements_of_a_row(constants) if loop and 'COLS' in constants else None
            yield {
                'kernel': kernel.__name__,
                'gpu': name,
                'dtype': dtype,
                'K': size,
                'format': 'channels_last' if channels_last else 'contiguous',
                'sizes': constants.get('WITH_SIZES', False),
                'tile': ' x '.join(str(constants[key]) for key in TILES if key in constants),
                'registers': registers,
                'spilled bytes': spilled,
                'widest load, bits': load,
                'widest store, bits': store,
                'instructions an element': per_element and round(per_element, 1),
            }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--sizes', type=int, nargs='+', default=[3, 5, 7])
    parser.add_argument('--gpus', nargs='+', choices=TARGETS, default=list(TARGETS))
    parser.add_argument('--dtypes', nargs='+', choices=BYTES, default=['bf16', 'fp32'])
    parser.add_argument('--kernels', nargs='+', help='Names of kernels. Default: all.')
    parser.add_argument('--json', action='store_true')
    arguments = parser.parse_args()
    for i, row in enumerate(variants(arguments.gpus, arguments.dtypes, arguments.sizes, arguments.kernels)):
        if arguments.json:
            print(json.dumps(row), flush=True)
            continue
        if i == 0:
            print('| ' + ' | '.join(row) + ' |\n' + '|---' * len(row) + '|')
        print('| ' + ' | '.join(map(str, row.values())) + ' |', flush=True)


if __name__ == '__main__':
    main()
